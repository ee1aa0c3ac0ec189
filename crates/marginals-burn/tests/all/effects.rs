//! Effects of heads on the loss against tiny models that were changed with whole matrices of attention, in
//! double precision.
//!
//! The reference is written by `tools/reference/effects.py`.

use std::collections::BTreeMap;

use marginals_burn::pretrained::effects::{Change, Effects};
use marginals_burn::{PosteriorMean, Transformer};
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

/// The same changes many times over go through the layers in several pieces, and in others places of them.
#[test]
fn effects_depend_neither_on_the_piece_nor_on_the_threads() {
    let model = Transformer::open(&folder().join("llama")).unwrap();
    let effects = Effects::new(&model, &tokens("llama")).unwrap().unwrap();
    let changes = CHANGES.repeat(41);
    let [found, others] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| effects.of_layer(0, &changes, &go_on)).unwrap().unwrap()
    });
    assert_eq!(found, others);
    for head in found {
        for again in head.chunks(CHANGES.len()) {
            for (effect, first) in again.iter().zip(&head) {
                assert!((effect - first).abs() < 2e-6, "{effect} is not {first}");
            }
        }
    }
}

/// Losses by the engine's normaliser over the vocabulary, against all logits in double precision.
#[test]
fn losses_are_those_of_the_logits() {
    let mut read = Vec::new();
    for folder in std::fs::read_dir(folder()).unwrap() {
        let folder = folder.unwrap();
        let (name, model) = (folder.file_name(), Transformer::open(&folder.path()).unwrap());
        let name = name.to_str().unwrap();
        if !model.is_language_model() {
            continue;
        }
        let tokens = tokens(name);
        let hidden = model.run(&tokens, &mut PosteriorMean).unwrap();
        let logits = model.logits(hidden).unwrap().unwrap();
        let vocabulary = logits.dims()[1];
        let logits: Vec<f32> = logits.into_data().try_into_vec().unwrap();
        let effects = Effects::new(&model, &tokens).unwrap().unwrap();
        let found = effects.predictions(1).unwrap();
        assert_eq!(found.losses.len(), tokens.len() - 1);
        let rows = logits.chunks(vocabulary).zip(&tokens.ids[1..]).zip(&found.losses);
        for ((row, &next), &loss) in rows {
            let log_z = row.iter().map(|&score| f64::from(score).exp()).sum::<f64>().ln();
            assert_near(name, loss, log_z - f64::from(row[next as usize]));
        }
        read.push(name.to_owned());
    }
    // One has a head of its own, one that of its words, one bounds its scores.
    for name in ["llama", "gpt2", "gemma2"] {
        assert!(read.iter().any(|read| read == name), "{read:?}");
    }
}

/// The mean of many draws is the posterior mean, and one draw is not.
#[test]
fn many_draws_change_little() {
    let model = Transformer::open(&folder().join("llama")).unwrap();
    let effects = Effects::new(&model, &tokens("llama")).unwrap().unwrap();
    let changes = [(1, 5), (40_000, 5), (1, 6)];
    let changes = changes.map(|(count, seed)| Change::Samples { count, seed });
    let found = effects.of_layer(1, &changes, &go_on).unwrap().unwrap();
    let largest = |change: usize| found.iter().map(|head| head[change].abs()).fold(0.0, f64::max);
    assert!(largest(0) > 0.02, "{found:?}");
    assert!(largest(1) < largest(0) / 20.0, "{found:?}");
    // A seed gives the same draws, and another one others.
    assert!(found.iter().any(|head| head[0] != head[2]), "{found:?}");
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
