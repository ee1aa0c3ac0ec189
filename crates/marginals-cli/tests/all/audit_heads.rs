//! Heads that are known because their weights were written by hand: the audit must name each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::common::audit;

/// Words of the vocabulary, and the number of each.
const WORDS: [&str; 24] = [
    "apple", "river", "stone", "cloud", "green", "mouse", "table", "piano", "winter", "letter",
    "garden", "silver", "monkey", "window", "paper", "orange", "castle", "doctor", "yellow",
    "bridge", "omega", ",", "<s>", "</s>",
];
const RANDOM_WORDS: usize = 20;
const OMEGA: usize = 20;
const COMMA: usize = 21;
const BEGIN: usize = 22;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A matrix [outputs, inputs] with some entries.
fn matrix(
    outputs: usize,
    inputs: usize,
    entries: &[(usize, usize, f64)],
) -> (Vec<usize>, Vec<f32>) {
    let mut values = vec![0.0; outputs * inputs];
    for &(output, input, value) in entries {
        values[output * inputs + input] += value as f32;
    }
    (vec![outputs, inputs], values)
}

fn write(folder: &Path, config: &Value, tokenizer: &Value, tensors: &Tensors) {
    fs::create_dir_all(folder).unwrap();
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap())
    });
    let weights = safetensors::serialize(views, None).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), weights).unwrap();
}

/// One token per word, and tokens that are added: `single` is the template of a text.
fn tokenizer(single: &[&str]) -> Value {
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().copied().zip(0..).collect();
    let special = |name: &str| json!({ "id": name, "ids": [vocabulary[name]], "tokens": [name] });
    let piece = |name: &&str| match *name {
        "A" => json!({ "Sequence": { "id": "A", "type_id": 0 } }),
        name => json!({ "SpecialToken": { "id": name, "type_id": 0 } }),
    };
    let single: Vec<Value> = single.iter().map(piece).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": { "<s>": special("<s>"), "</s>": special("</s>") },
        },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "apple" },
    })
}

/// Words at random with a comma after every sixth, the same whenever it is asked for.
fn random_words(count: usize) -> Vec<&'static str> {
    let mut state = 7u64;
    let mut words = Vec::new();
    while words.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        words.push(match words.len() % 7 {
            6 => WORDS[COMMA],
            _ => WORDS[(state >> 33) as usize % RANDOM_WORDS],
        });
    }
    words
}

/// Audits a text and returns the document.
fn document(model: &Path, text: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.txt"), text).unwrap();
    let output = audit()
        .arg(model)
        .arg(folder.path().join("text.txt"))
        .args(["--format", "json", "--out"])
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts the labels of the first heads of a layer.
#[track_caller]
fn labels(document: &Value, layer: u64, expected: &[&str]) {
    let heads = document["heads"].as_array().unwrap();
    for (head, label) in expected.iter().enumerate() {
        let of = |own: &&Value| own["layer"] == layer && own["head"] == head;
        let found = heads.iter().find(of).unwrap();
        assert_eq!(found["label"], *label, "{layer}.{head}: {found}");
    }
}

fn head(document: &Value, layer: u64, head: u64) -> &Value {
    let heads = document["heads"].as_array().unwrap();
    heads.iter().find(|own| own["layer"] == layer && own["head"] == head).unwrap()
}

const LLAMA_WIDTH: usize = 56;
const HEADS: usize = 8;
const HEAD_WIDTH: usize = 64;
/// Coordinates of the hidden state: a token is 1 at its number, every token is 1 at the next, and the
/// token before is 1 further on once the first layer has written it.
const ONE: usize = 24;
const BEFORE: usize = 25;
/// Pair p of a head's coordinates, p and p + 32, turns by 10^(−30 p / 32) per position: four pairs tell
/// positions, and from the sixth on nothing turns within a text.
const ROTARY_BASE: f64 = 1e30;
const CONTENT: usize = 5;
/// Rate of decay per token of the positional head, and of the local one.
const DECAY: f64 = 0.1;
const LOCAL_DECAY: f64 = 0.3;

fn turn(pair: usize) -> f64 {
    ROTARY_BASE.powf(-(pair as f64) / 32.0)
}

/// Queries and keys of one head, as entries (coordinate of the head, of the hidden state, value).
#[derive(Default)]
struct Known {
    query: Vec<(usize, usize, f64)>,
    key: Vec<(usize, usize, f64)>,
}

impl Known {
    /// Adds size · cos(distance · turn + phase) of a pair to the scores.
    fn turning(mut self, pair: usize, size: f64, phase: f64) -> Self {
        // Scores are divided by √64.
        self.query.push((pair, ONE, 8.0 * size * phase.cos()));
        self.query.push((pair + 32, ONE, 8.0 * size * phase.sin()));
        self.key.push((pair, ONE, 1.0));
        self
    }

    /// Adds size · Σ_c query_c key_c, of coordinates of the hidden state.
    fn matching(mut self, size: f64, pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        for (place, (query, key)) in pairs.enumerate() {
            self.query.push((CONTENT + place, query, 8.0 * size));
            self.key.push((CONTENT + place, key, 1.0));
        }
        self
    }
}

/// Scores that fall linearly with the distance: −size · sin(distance · turn), of a slow pair.
fn decaying(rate: f64) -> Known {
    let pair = 3;
    Known::default().turning(pair, rate / turn(pair), std::f64::consts::FRAC_PI_2)
}

/// Scores that are largest at a distance.
fn peaked(size: f64, distance: f64) -> Known {
    (0..3).fold(Known::default(), |known, pair| known.turning(pair, size, -distance * turn(pair)))
}

/// A Llama of two layers without feed-forward parts, every head of which is known.
fn write_llama(folder: &Path) {
    let all = || 0..WORDS.len();
    let first_layer = [
        peaked(60.0, 1.0),
        // Its own token, but not where it stands.
        (0..3)
            .fold(Known::default(), |known, pair| known.turning(pair, 40.0, std::f64::consts::PI))
            .matching(400.0, all().map(|token| (token, token))),
        Known::default().matching(30.0, [(ONE, BEGIN)].into_iter()),
        decaying(DECAY),
        Known::default().matching(30.0, [(ONE, COMMA)].into_iter()),
        peaked(60.0, 0.0),
        // Another word for each word, wherever it stands.
        Known::default()
            .matching(30.0, (0..RANDOM_WORDS).map(|token| (token, (token + 7) % RANDOM_WORDS))),
        Known::default(),
    ];
    let second_layer = [
        Known::default().matching(30.0, all().map(|token| (token, BEFORE + token))),
        Known::default().matching(30.0, [(ONE, OMEGA)].into_iter()),
        decaying(LOCAL_DECAY),
        Known::default(),
        Known::default(),
        Known::default(),
        Known::default(),
        Known::default(),
    ];
    let mut tensors = Tensors::new();
    let embedding: Vec<_> =
        all().flat_map(|token| [(token, token, 1.0), (token, ONE, 1.0)]).collect();
    tensors
        .insert("model.embed_tokens.weight".into(), matrix(WORDS.len(), LLAMA_WIDTH, &embedding));
    for (layer, heads) in [first_layer, second_layer].iter().enumerate() {
        let mut add = |name: &str, tensor| {
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), tensor);
        };
        let of_all = |part: fn(&Known) -> &Vec<(usize, usize, f64)>| {
            let of_head = |(head, known): (usize, &Known)| {
                let own = part(known).iter();
                own.map(|&(own, hidden, value)| (head * HEAD_WIDTH + own, hidden, value))
                    .collect::<Vec<_>>()
            };
            let entries: Vec<_> = heads.iter().enumerate().flat_map(of_head).collect();
            matrix(HEADS * HEAD_WIDTH, LLAMA_WIDTH, &entries)
        };
        add("self_attn.q_proj", of_all(|known| &known.query));
        add("self_attn.k_proj", of_all(|known| &known.key));
        // The first head writes the token before; nobody else writes anything.
        let tokens = if layer == 0 { WORDS.len() } else { 0 };
        let read: Vec<_> = (0..tokens).map(|token| (token, token, 1.0)).collect();
        let written: Vec<_> = (0..tokens).map(|token| (BEFORE + token, token, 1.0)).collect();
        add("self_attn.v_proj", matrix(HEADS * HEAD_WIDTH, LLAMA_WIDTH, &read));
        add("self_attn.o_proj", matrix(LLAMA_WIDTH, HEADS * HEAD_WIDTH, &written));
        for (name, outputs, inputs) in [
            ("mlp.gate_proj", 4, LLAMA_WIDTH),
            ("mlp.up_proj", 4, LLAMA_WIDTH),
            ("mlp.down_proj", LLAMA_WIDTH, 4),
        ] {
            add(name, matrix(outputs, inputs, &[]));
        }
        // As many coordinates are 1 as undo what the normalisation does.
        let ones = if layer == 0 { 2.0 } else { 3.0 };
        let scale = (ones / LLAMA_WIDTH as f32).sqrt();
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(norm, (vec![LLAMA_WIDTH], vec![scale; LLAMA_WIDTH]));
        }
    }
    tensors.insert("model.norm.weight".into(), (vec![LLAMA_WIDTH], vec![1.0; LLAMA_WIDTH]));
    let config = json!({
        "model_type": "llama", "vocab_size": WORDS.len(), "hidden_size": LLAMA_WIDTH,
        "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "head_dim": HEAD_WIDTH, "intermediate_size": 4, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-12, "rope_theta": ROTARY_BASE, "hidden_act": "silu",
        "tie_word_embeddings": true,
    });
    write(folder, &config, &tokenizer(&["<s>", "A"]), &tensors);
}

/// A random sequence four times, as induction is looked for.
fn repeated() -> String {
    let words = random_words(40).join(" ");
    format!("omega {words} {words} {words} {words}")
}

#[test]
fn heads_of_a_decoder_written_by_hand_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_llama(folder.path());
    let document = document(folder.path(), &repeated());
    labels(
        &document,
        0,
        &[
            "previous-token",
            "duplicate-token",
            "first-token",
            "positional",
            "punctuation",
            "same-token",
            "content",
            "diffuse",
        ],
    );
    labels(&document, 1, &["induction", "sink", "local", "diffuse"]);
    for (layer, index, measure) in [
        (0, 0, "previous_token_mass"),
        (0, 1, "duplicate_token_mass"),
        (0, 2, "first_token_mass"),
        (0, 5, "same_token_mass"),
        (1, 0, "induction_mass"),
    ] {
        let mass = head(&document, layer, index)[measure].as_f64().unwrap();
        assert!(mass > 0.999, "{layer}.{index}: {measure} {mass}");
        let margin = head(&document, layer, index)["margin"].as_f64().unwrap();
        assert!(margin > 0.35, "{layer}.{index}: margin {margin}");
    }
    // Decoders see no token after the query.
    assert!(head(&document, 0, 0)["next_token_mass"].is_null());
}

/// The scores fall by the same number per token: a geometric prior and nothing else.
#[test]
fn the_prior_of_a_positional_head_is_found() {
    let folder = tempfile::tempdir().unwrap();
    write_llama(folder.path());
    let document = document(folder.path(), &repeated());
    for (layer, index, rate) in [(0, 3, DECAY), (1, 2, LOCAL_DECAY)] {
        let head = head(&document, layer, index);
        let prior = &head["distance_prior"];
        assert_eq!(prior["name"], "geometric", "{head}");
        // The sine bends by a thousandth over the distances that matter.
        let rho = prior["rho"].as_f64().unwrap();
        assert!((rho - (1.0 - (-rate).exp())).abs() < 1e-3 * rho, "{prior}");
        assert!(head["distance_kl"].as_f64().unwrap() < 1e-5, "{head}");
        assert!(head["distance_share"].as_f64().unwrap() > 0.9999, "{head}");
    }
    let flat = head(&document, 0, 7);
    assert_eq!(flat["distance_prior"], json!({ "name": "flat" }), "{flat}");
    assert!(flat["kl"].as_f64().unwrap() < 1e-5, "{flat}");
}

const ENCODER_CONTEXT: usize = 40;
const ENCODER_HEAD: usize = WORDS.len() + ENCODER_CONTEXT;
const ENCODER_HEADS: usize = 6;
const ENCODER_WIDTH: usize = ENCODER_HEADS * ENCODER_HEAD;

/// A BERT of one layer: positions are coordinates of their own, so that heads find them by number.
fn write_bert(folder: &Path, single: &[&str]) {
    const SIZE: f64 = 30.0;
    let scale = SIZE * (ENCODER_HEAD as f64).sqrt();
    let (tokens, positions) = (0..WORDS.len(), 0..ENCODER_CONTEXT);
    let position = |position: usize| WORDS.len() + position;
    // Pairs of coordinates of the query and the key that match; a query of `None` is every query's.
    let shifted = |by: isize| -> Vec<(Option<usize>, usize)> {
        let keys = positions.clone().filter_map(|query| {
            let key = query.checked_add_signed(by).filter(|&key| key < ENCODER_CONTEXT)?;
            Some((Some(position(query)), position(key)))
        });
        keys.collect()
    };
    let heads: [Vec<(Option<usize>, usize)>; ENCODER_HEADS] = [
        shifted(1),
        shifted(-1),
        shifted(0),
        vec![(None, position(ENCODER_CONTEXT - 1))],
        vec![(None, COMMA)],
        tokens.clone().map(|token| (Some(token), token)).collect(),
    ];
    let (mut query, mut query_bias, mut key) = (Vec::new(), vec![0.0; ENCODER_WIDTH], Vec::new());
    for (head, pairs) in heads.iter().enumerate() {
        for (place, &(from, to)) in pairs.iter().enumerate() {
            let own = head * ENCODER_HEAD + place;
            match from {
                Some(from) => query.push((own, from, scale)),
                None => query_bias[own] = scale as f32,
            }
            key.push((own, to, 1.0));
        }
    }
    let mut tensors = Tensors::new();
    let one_hot = |rows: usize, first: usize| {
        let entries: Vec<_> = (0..rows).map(|row| (row, first + row, 1.0)).collect();
        matrix(rows, ENCODER_WIDTH, &entries)
    };
    for (name, table) in [
        ("word", one_hot(WORDS.len(), 0)),
        ("position", one_hot(ENCODER_CONTEXT, WORDS.len())),
        ("token_type", matrix(1, ENCODER_WIDTH, &[])),
    ] {
        tensors.insert(format!("embeddings.{name}_embeddings.weight"), table);
    }
    let layer = "encoder.layer.0";
    for (name, outputs, inputs, entries, bias) in [
        ("attention.self.query", ENCODER_WIDTH, ENCODER_WIDTH, &query[..], Some(query_bias)),
        ("attention.self.key", ENCODER_WIDTH, ENCODER_WIDTH, &key[..], None),
        ("attention.self.value", ENCODER_WIDTH, ENCODER_WIDTH, &[][..], None),
        ("attention.output.dense", ENCODER_WIDTH, ENCODER_WIDTH, &[][..], None),
        ("intermediate.dense", 4, ENCODER_WIDTH, &[][..], None),
        ("output.dense", ENCODER_WIDTH, 4, &[][..], None),
    ] {
        tensors.insert(format!("{layer}.{name}.weight"), matrix(outputs, inputs, entries));
        let bias = bias.unwrap_or_else(|| vec![0.0; outputs]);
        tensors.insert(format!("{layer}.{name}.bias"), (vec![outputs], bias));
    }
    // Two coordinates of every token are 1: weight and bias undo what the normalisation does.
    let mean = 2.0 / ENCODER_WIDTH as f32;
    let deviation = (mean - mean * mean).sqrt();
    for norm in
        ["embeddings".to_owned(), format!("{layer}.attention.output"), format!("{layer}.output")]
    {
        for (name, value) in [("weight", deviation), ("bias", mean)] {
            let values = vec![value; ENCODER_WIDTH];
            tensors.insert(format!("{norm}.LayerNorm.{name}"), (vec![ENCODER_WIDTH], values));
        }
    }
    let config = json!({
        "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": ENCODER_WIDTH,
        "num_hidden_layers": 1, "num_attention_heads": ENCODER_HEADS, "intermediate_size": 4,
        "hidden_act": "gelu", "max_position_embeddings": ENCODER_CONTEXT, "type_vocab_size": 1,
        "layer_norm_eps": 1e-12,
    });
    write(folder, &config, &tokenizer(single), &tensors);
}

#[test]
fn heads_of_an_encoder_written_by_hand_are_named() {
    let folder = tempfile::tempdir().unwrap();
    // The last position is the end that the tokenizer added, or the author's last word.
    for (single, last) in [(&["<s>", "A", "</s>"][..], "separator"), (&["A"], "last-token")] {
        write_bert(folder.path(), single);
        let words = random_words(ENCODER_CONTEXT / 2);
        let words = [&words[..], &words[..]].concat()[single.len() - 1..].join(" ");
        let document = document(folder.path(), &words);
        assert_eq!(document["text"]["token_count"], ENCODER_CONTEXT);
        labels(
            &document,
            0,
            &["next-token", "previous-token", "same-token", last, "punctuation", "duplicate-token"],
        );
        // It cannot leave its own position out: of c occurrences it leaves 1 / c there.
        let own = head(&document, 0, 5);
        let ids: Vec<u64> = document["text"]["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["id"].as_u64().unwrap())
            .collect();
        let count = |id: &u64| ids.iter().filter(|other| *other == id).count() as f64;
        let repeated: Vec<f64> = ids.iter().map(count).filter(|&count| count > 1.0).collect();
        let mean = repeated.iter().map(|c| 1.0 - 1.0 / c).sum::<f64>() / repeated.len() as f64;
        let found = own["duplicate_token_mass"].as_f64().unwrap();
        assert!((found - mean).abs() < 1e-5, "{found} {mean}");
        let same = ids.iter().map(|id| 1.0 / count(id)).sum::<f64>() / ids.len() as f64;
        assert!((own["same_token_mass"].as_f64().unwrap() - same).abs() < 1e-5, "{own}");
    }
}
