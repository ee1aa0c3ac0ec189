//! Effects of heads on the loss against tiny models that were changed with whole matrices of attention, in
//! double precision.
//!
//! The reference is written by `tools/reference/effects.py`.

use std::collections::BTreeMap;

use marginals_burn::Transformer;
use marginals_burn::pretrained::effects::{Change, Effects};
use serde::Deserialize;

use crate::common::reference;
use crate::families::{folder, tokens};

#[derive(Deserialize)]
struct Reference {
    losses: Vec<f64>,
    /// `[layer][head][change]`.
    effects: Vec<Vec<Vec<f64>>>,
}

/// The order in which the reference has them.
const CHANGES: [Change; 5] = [
    Change::LikeliestKey,
    Change::Zero,
    Change::MeanOutput,
    Change::WithoutSink,
    Change::Window(4),
];

/// Largest error of a loss, in nats.
const TOLERANCE: f64 = 1e-5;

fn go_on() -> bool {
    true
}

fn assert_near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found} is not {expected}");
}

#[test]
fn heads_are_worth_what_the_reference_says() {
    let reference: BTreeMap<String, Reference> = reference("effects.json");
    for (name, Reference { losses, effects: expected }) in &reference {
        let model = Transformer::open(&folder().join(name)).unwrap();
        let effects = Effects::new(&model, &tokens(name)).unwrap().unwrap();
        assert_near(name, effects.loss(), losses.iter().sum::<f64>() / losses.len() as f64);
        let predictions = effects.predictions(3).unwrap();
        assert_eq!(predictions.losses.len(), losses.len());
        for (found, expected) in predictions.losses.iter().zip(losses) {
            assert_near(name, *found, *expected);
        }
        for layer in 0..model.layers() {
            let found = effects.of_layer(layer, &CHANGES, &go_on).unwrap().unwrap();
            assert_eq!(found.len(), expected[layer].len());
            for (head, (found, expected)) in found.iter().zip(&expected[layer]).enumerate() {
                for (change, (found, expected)) in CHANGES.iter().zip(found.iter().zip(expected)) {
                    assert_near(&format!("{name} {layer}.{head} {change:?}"), *found, *expected);
                }
            }
        }
    }
}

/// The mean of many draws is the posterior mean, and one draw is not.
#[test]
fn many_draws_change_little() {
    let model = Transformer::open(&folder().join("llama")).unwrap();
    let effects = Effects::new(&model, &tokens("llama")).unwrap().unwrap();
    let changes = [1, 40_000].map(|count| Change::Samples { count, seed: 5 });
    let found = effects.of_layer(1, &changes, &go_on).unwrap().unwrap();
    let largest = |change: usize| found.iter().map(|head| head[change].abs()).fold(0.0, f64::max);
    assert!(largest(0) > 0.02, "{found:?}");
    assert!(largest(1) < largest(0) / 20.0, "{found:?}");
    // A seed gives the same draws.
    assert_eq!(found, effects.of_layer(1, &changes, &go_on).unwrap().unwrap());
}

#[test]
fn predictions_are_the_likeliest_tokens() {
    let model = Transformer::open(&folder().join("gemma2")).unwrap();
    let tokens = tokens("gemma2");
    let effects = Effects::new(&model, &tokens).unwrap().unwrap();
    let all = effects.predictions(1000).unwrap();
    assert_eq!(all.likeliest.len(), tokens.len());
    for (position, row) in all.likeliest.iter().enumerate() {
        let mass: f64 = row.iter().map(|(_, log_p)| log_p.exp()).sum();
        assert!((mass - 1.0).abs() < 1e-6, "position {position}: {mass}");
        assert!(row.is_sorted_by(|a, b| a.1 >= b.1));
        if let Some(&next) = tokens.ids.get(position + 1) {
            let of_next = row.iter().find(|(id, _)| *id == next).unwrap().1;
            assert_near("loss of the next token", -of_next, all.losses[position]);
        }
    }
    let few = effects.predictions(2).unwrap();
    for (few, all) in few.likeliest.iter().zip(&all.likeliest) {
        assert_eq!(few[..], all[..2]);
    }
}

#[test]
fn effects_stop_when_they_are_told_to() {
    let model = Transformer::open(&folder().join("llama")).unwrap();
    let effects = Effects::new(&model, &tokens("llama")).unwrap().unwrap();
    assert_eq!(effects.of_layer(0, &CHANGES, &|| false).unwrap(), None);
}

#[test]
fn an_encoder_has_no_effects() {
    let model = Transformer::open(&folder().join("roberta")).unwrap();
    assert!(Effects::new(&model, &tokens("roberta")).unwrap().is_none());
}
