//! One Llama with random weights written in both of its file formats: they must be the same model.
//!
//! The formats pair the coordinates that rotate together differently, name everything differently
//! and store the tokenizer differently. The GGUF side is compared with an outside implementation
//! in `pretrained.rs`; this carries that over to the Hugging Face side.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::next_token;
use marginals_burn::{Attend, Layer, ModelError, PosteriorMean, Pretrained, Visible};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

const WIDTH: usize = 12;
const HEADS: usize = 3;
const KEY_HEADS: usize = 1;
const HEAD_WIDTH: usize = 4;
const INNER: usize = 10;
const LAYERS: usize = 2;
const CONTEXT: usize = 32;
const PIECES: [&str; 7] = ["<|end|>", "a", "b", "c", "Ġ", "ab", "Ġc"];
const MERGES: [&str; 2] = ["a b", "Ġ c"];

/// Weights by their Hugging Face names.
fn weights() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut weights = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let seed = weights.len() * 29 + 3;
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| ((seed + i * 13) as f32).sin()).collect();
        weights.insert(name, (shape.to_vec(), values));
    };
    add("model.embed_tokens.weight".into(), &[PIECES.len(), WIDTH]);
    add("model.norm.weight".into(), &[WIDTH]);
    for layer in 0..LAYERS {
        let layer = format!("model.layers.{layer}");
        add(format!("{layer}.input_layernorm.weight"), &[WIDTH]);
        add(format!("{layer}.post_attention_layernorm.weight"), &[WIDTH]);
        for (name, outputs, inputs) in [
            ("self_attn.q_proj", HEADS * HEAD_WIDTH, WIDTH),
            ("self_attn.k_proj", KEY_HEADS * HEAD_WIDTH, WIDTH),
            ("self_attn.v_proj", KEY_HEADS * HEAD_WIDTH, WIDTH),
            ("self_attn.o_proj", WIDTH, HEADS * HEAD_WIDTH),
            ("mlp.gate_proj", INNER, WIDTH),
            ("mlp.up_proj", INNER, WIDTH),
            ("mlp.down_proj", WIDTH, INNER),
        ] {
            add(format!("{layer}.{name}.weight"), &[outputs, inputs]);
        }
    }
    weights
}

fn write_hugging_face(folder: &Path) {
    write_hugging_face_of(folder, weights());
}

fn write_hugging_face_of(folder: &Path, weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = weights
        .into_iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": PIECES.len(), "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS, "intermediate_size": INNER, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 500.0,
        "tie_word_embeddings": true,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let vocabulary: BTreeMap<&str, usize> = PIECES.iter().copied().zip(0..).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{ "id": 0, "content": "<|end|>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false }],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true },
        "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": MERGES },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// Rows of a projection reordered so that coordinates i and i + half become 2i and 2i + 1.
fn neighbouring(values: &[f32], heads: usize) -> Vec<f32> {
    let row = |index: usize| &values[index * WIDTH..(index + 1) * WIDTH];
    (0..heads)
        .flat_map(|head| {
            (0..HEAD_WIDTH)
                .map(move |place| head * HEAD_WIDTH + place / 2 + (place % 2) * (HEAD_WIDTH / 2))
        })
        .flat_map(|index| row(index).iter().copied())
        .collect()
}

fn gguf_name(name: &str) -> String {
    let renamed = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    renamed.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn write_gguf(path: &Path, splitting: &str) {
    write_gguf_saying(path, splitting, None);
}

/// A GGUF file with one metadata entry more: key, type and value.
fn write_gguf_saying(path: &Path, splitting: &str, more: Option<(&str, u32, Vec<u8>)>) {
    let (text_code, u32_code, f32_code, i32_code, array_code) = (8u32, 4u32, 6u32, 5u32, 9u32);
    let mut metadata: Vec<Vec<u8>> = Vec::new();
    let mut entry = |key: &str, code: u32, value: &[u8]| {
        let mut bytes = Vec::new();
        text(&mut bytes, key);
        bytes.extend(code.to_le_bytes());
        bytes.extend(value);
        metadata.push(bytes);
    };
    let as_text = |value: &str| {
        let mut bytes = Vec::new();
        text(&mut bytes, value);
        bytes
    };
    let array = |code: u32, items: Vec<Vec<u8>>| {
        let mut bytes = code.to_le_bytes().to_vec();
        bytes.extend((items.len() as u64).to_le_bytes());
        bytes.extend(items.concat());
        bytes
    };
    entry("general.architecture", text_code, &as_text("llama"));
    if let Some((key, code, value)) = more {
        entry(key, code, &value);
    }
    for (key, size) in [
        ("llama.block_count", LAYERS),
        ("llama.context_length", CONTEXT),
        ("llama.embedding_length", WIDTH),
        ("llama.feed_forward_length", INNER),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KEY_HEADS),
    ] {
        entry(key, u32_code, &(size as u32).to_le_bytes());
    }
    entry("llama.attention.layer_norm_rms_epsilon", f32_code, &1e-5f32.to_le_bytes());
    entry("llama.rope.freq_base", f32_code, &500.0f32.to_le_bytes());
    entry("tokenizer.ggml.model", text_code, &as_text("gpt2"));
    entry("tokenizer.ggml.pre", text_code, &as_text(splitting));
    let texts = |texts: &[&str]| array(text_code, texts.iter().map(|text| as_text(text)).collect());
    entry("tokenizer.ggml.tokens", array_code, &texts(&PIECES));
    entry("tokenizer.ggml.merges", array_code, &texts(&MERGES));
    let types = (0..PIECES.len()).map(|id| (if id == 0 { 3i32 } else { 1 }).to_le_bytes().to_vec());
    entry("tokenizer.ggml.token_type", array_code, &array(i32_code, types.collect()));

    let weights = weights();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((weights.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    bytes.extend(metadata.concat());
    let mut data: Vec<u8> = Vec::new();
    for (name, (shape, values)) in &weights {
        let values = match name {
            name if name.contains("q_proj") => neighbouring(values, HEADS),
            name if name.contains("k_proj") => neighbouring(values, KEY_HEADS),
            _ => values.clone(),
        };
        text(&mut bytes, &gguf_name(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        for axis in shape.iter().rev() {
            bytes.extend((*axis as u64).to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        data.extend(values.into_iter().flat_map(f32::to_le_bytes));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn next(model: &Pretrained, text: &str) -> (Vec<u32>, Vec<f64>) {
    let tokens = model.tokenizer.encode(text, None).unwrap();
    let next = next_token(model, &tokens);
    (tokens.ids, next)
}

#[test]
fn both_formats_hold_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    write_hugging_face(folder.path());
    let path = folder.path().join("model.gguf");
    write_gguf(&path, "gpt-2");
    let hugging_face = Pretrained::open(folder.path()).unwrap();
    let gguf = Pretrained::open(&path).unwrap();
    for text in ["ab c abba", "c", "a b<|end|>ab c c c abab a"] {
        let (ids, expected) = next(&hugging_face, text);
        let (gguf_ids, found) = next(&gguf, text);
        assert_eq!(gguf_ids, ids, "{text}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{text}: {found} {expected}");
        }
        let total: f64 = found.iter().map(|log_probability| log_probability.exp()).sum();
        assert!((total - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_unknown_word_splitting_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&path, "deepseek");
    match Pretrained::open(&path) {
        Err(ModelError::Unsupported { reason, .. }) => {
            assert!(reason.contains("`deepseek`") && reason.contains("smollm"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn rotary_embeddings_that_are_not_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (key, value, named) in [
        ("rope_scaling", json!({ "type": "axial", "factor": 2.0 }), "`axial`"),
        ("rope_parameters", json!({ "rope_type": "llama3", "factor": 8.0 }), "`low_freq_factor`"),
        ("rope_scaling", json!({ "type": "linear" }), "`factor`"),
    ] {
        let told = with_setting(folder.path(), key, value).expect_err(key);
        assert!(told.contains(named), "{told}");
    }
}

/// The last hidden state, of a text that every scaling changes.
fn hidden_with(folder: &Path, key: &str, value: serde_json::Value) -> Vec<f32> {
    let model = with_setting(folder, key, value).unwrap();
    let tokens = model.tokenizer.encode("ab cab ab cab", None).unwrap();
    let hidden = model.transformer.run(&tokens, &mut PosteriorMean).unwrap();
    hidden.into_data().try_into_vec().unwrap()
}

#[test]
fn scalings_are_read_from_older_and_newer_files() {
    let folder = tempfile::tempdir().unwrap();
    let plain = hidden_with(folder.path(), "rope_scaling", json!(null));
    for same in [json!({ "type": "default" }), json!({ "type": "linear", "factor": 1.0 })] {
        assert_eq!(hidden_with(folder.path(), "rope_scaling", same), plain);
    }
    for (kind, more) in [
        ("linear", json!({})),
        ("yarn", json!({ "original_max_position_embeddings": 8 })),
        (
            "llama3",
            json!({ "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8 }),
        ),
    ] {
        let mut settings = more.clone();
        settings["factor"] = json!(4.0);
        settings["type"] = json!(kind);
        let older = hidden_with(folder.path(), "rope_scaling", settings.clone());
        assert_ne!(older, plain, "{kind}");
        settings["rope_type"] = json!(kind);
        settings["rope_theta"] = json!(500.0);
        assert_eq!(hidden_with(folder.path(), "rope_parameters", settings), older, "{kind}");
    }
    let dynamic = json!({ "type": "dynamic", "factor": 2.0 });
    assert_eq!(hidden_with(folder.path(), "rope_scaling", dynamic.clone()), plain);
    let model = with_setting(folder.path(), "rope_scaling", dynamic).unwrap();
    assert_eq!(model.transformer.context(), Some(2 * CONTEXT));
}

/// Opens the folder with one key of its configuration changed.
fn with_setting(folder: &Path, key: &str, value: serde_json::Value) -> Result<Pretrained, String> {
    write_hugging_face(folder);
    let path = folder.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(&path, config.to_string()).unwrap();
    Pretrained::open(folder).map_err(|error| error.to_string())
}

#[test]
fn settings_that_change_the_attention_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (key, other, usual) in [
        ("attn_logit_softcapping", json!(30.0), json!(null)),
        ("partial_rotary_factor", json!(0.5), json!(1.0)),
        ("sliding_window", json!(CONTEXT - 1), json!(CONTEXT)),
        ("layer_types", json!(["full_attention", "sliding_attention"]), json!(["full_attention"])),
        ("attention_chunk_size", json!(8), json!(null)),
        ("use_qk_norm", json!(true), json!(false)),
        ("alibi", json!(true), json!(false)),
    ] {
        let told = with_setting(folder.path(), key, other).expect_err(key);
        assert!(told.contains("not supported") && told.contains(&format!("`{key}`")), "{told}");
        assert!(!told.contains("damaged"), "{told}");
        assert!(with_setting(folder.path(), key, usual).is_ok(), "{key}");
    }
    let rotary =
        json!({ "rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5 });
    let told = with_setting(folder.path(), "rope_parameters", rotary).expect_err("turned in part");
    assert!(told.contains("`partial_rotary_factor`"), "{told}");

    let path = folder.path().join("model.gguf");
    let float = |x: f32| (6, x.to_le_bytes().to_vec());
    let whole = |x: u32| (4, x.to_le_bytes().to_vec());
    for (key, (code, other), usual) in [
        ("llama.attn_logit_softcapping", float(30.0), float(0.0)),
        ("llama.attention.scale", float(0.05), float(0.0)),
        ("llama.attention.sliding_window", whole(4), whole(CONTEXT as u32)),
        ("llama.attention.max_alibi_bias", float(8.0), float(0.0)),
        ("llama.rope.scaling.yarn_ext_factor", float(1.0), float(0.0)),
        ("llama.rope.scaling.attn_factor", float(1.5), float(1.0)),
    ] {
        write_gguf_saying(&path, "gpt-2", Some((key, code, other)));
        match Pretrained::open(&path) {
            Err(ModelError::Unsupported { reason, .. }) => {
                assert!(reason.contains(key), "{reason}")
            }
            other => panic!("{key}: {other:?}"),
        }
        write_gguf_saying(&path, "gpt-2", Some((key, usual.0, usual.1)));
        assert!(Pretrained::open(&path).is_ok(), "{key}");
    }
}

/// Metadata that makes another model of a Llama is refused by its name, and not as damaged.
#[test]
fn gguf_files_of_other_models_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let whole = |x: u32| (4, x.to_le_bytes().to_vec());
    let said = |name: &str| {
        let mut bytes = Vec::new();
        text(&mut bytes, name);
        (8, bytes)
    };
    for (key, (code, value), named) in [
        ("llama.expert_count", whole(2), "2 experts"),
        ("llama.attention.value_length", whole(3), "values are 3 wide"),
        ("llama.rope.dimension_count", whole(2), "`partial_rotary_factor`"),
        ("llama.rope.scaling.type", said("dynamic"), "`dynamic`"),
        ("llama.rope.scaling.type", said("longrope"), "rope_factors_short"),
        ("llama.unheard_of", whole(1), "`llama.unheard_of`"),
    ] {
        write_gguf_saying(&path, "gpt-2", Some((key, code, value)));
        match Pretrained::open(&path) {
            Err(ModelError::Unsupported { reason, .. }) => {
                assert!(reason.contains(named), "{key}: {reason}")
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    write_gguf(&path, "gpt-2");
    let mut bytes = std::fs::read(&path).unwrap();
    let replaced = |bytes: &mut Vec<u8>, from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
    };
    replaced(&mut bytes, b"blk.0.attn_q.weight", b"blk.0.attn_z.weight");
    std::fs::write(&path, &bytes).unwrap();
    let told = Pretrained::open(&path).unwrap_err().to_string();
    assert!(told.contains("`blk.0.attn_z.weight`") && !told.contains("damaged"), "{told}");
    replaced(&mut bytes, b"llama", b"mamba");
    std::fs::write(&path, &bytes).unwrap();
    let told = Pretrained::open(&path).unwrap_err().to_string();
    assert!(told.contains("`mamba`") && told.contains("`qwen3`"), "{told}");
}

/// A label that is not the weights' own is named, and missing tensors go by the file's names for them.
#[test]
fn gguf_labels_and_tensors_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&path, "gpt-2");
    let plain = std::fs::read(&path).unwrap();
    let told = |from: &str, to: &str| {
        let mut bytes = plain.clone();
        let from = from.as_bytes();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        Pretrained::open(&path).unwrap_err()
    };
    for (label, missing) in
        [("qwen2", "no `blk.0.attn_q.bias`"), ("qwen3", "no `blk.0.attn_q_norm.weight`")]
    {
        match told("llama", label) {
            ModelError::Unsupported { reason, .. } => {
                assert!(reason.contains(&format!("`{label}`")), "{reason}");
                assert!(
                    reason.contains("those of `llama`") && reason.contains(missing),
                    "{reason}"
                );
            }
            other => panic!("{label}: {other:?}"),
        }
    }
    match told("blk.0.ffn_up.weight", "blk.9.ffn_up.weight") {
        ModelError::Damaged { reason, .. } => {
            assert_eq!(reason, "the tensor `blk.0.ffn_up.weight` is missing");
        }
        other => panic!("{other:?}"),
    }
    match told("blk.1.ffn_up.weight", "blk.9.ffn_up.weight") {
        ModelError::Damaged { reason, .. } => {
            assert_eq!(reason, "the tensor `blk.1.ffn_up.weight` is missing");
        }
        other => panic!("{other:?}"),
    }
}

/// Which keys the layers of a model see, from the model that each hands to the engine.
struct Seen(Vec<Visible>);

impl Attend for Seen {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<ndarray::Array4<f32>, String> {
        self.0.push(layer.visible());
        PosteriorMean.attend(layer)
    }
}

#[test]
fn a_llama_that_is_not_causal_sees_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (causal, visible) in [(true, Visible::Before), (false, Visible::All)] {
        let hugging_face = with_setting(folder.path(), "is_causal", json!(causal)).unwrap();
        let said = ("llama.attention.causal", 7, vec![u8::from(causal)]);
        write_gguf_saying(&path, "gpt-2", Some(said));
        for model in [hugging_face, Pretrained::open(&path).unwrap()] {
            assert_eq!(model.transformer.visible(LAYERS - 1), visible);
            let mut first = Vec::new();
            for text in ["ab c", "ab cab"] {
                let tokens = model.tokenizer.encode(text, None).unwrap();
                let mut seen = Seen(Vec::new());
                let hidden = model.transformer.run(&tokens, &mut seen).unwrap();
                assert_eq!(seen.0, [visible; LAYERS]);
                let row: Vec<f32> = hidden.narrow(0, 0, 1).into_data().try_into_vec().unwrap();
                first.push(row);
            }
            assert_eq!(first[0] == first[1], causal);
        }
    }
}

/// The base class leaves out `model.`; compilers and parallel training put words before names or into them.
#[test]
fn weights_go_by_the_names_of_wrappers_too() {
    let folder = tempfile::tempdir().unwrap();
    let opened = |rename: &dyn Fn(&str) -> String| {
        let all = weights().into_iter().map(|(name, values)| (rename(&name), values));
        write_hugging_face_of(folder.path(), all.collect());
        Pretrained::open(folder.path())
    };
    let hidden = |model: Pretrained| -> Vec<f32> {
        let tokens = model.tokenizer.encode("ab cab", None).unwrap();
        let hidden = model.transformer.run(&tokens, &mut PosteriorMean).unwrap();
        hidden.into_data().try_into_vec().unwrap()
    };
    let plain = hidden(opened(&|name| name.to_owned()).unwrap());
    let others: [&dyn Fn(&str) -> String; 4] = [
        &|name| name.trim_start_matches("model.").to_owned(),
        &|name| format!("_orig_mod.{name}"),
        &|name| format!("module.{name}"),
        &|name| name.replace("self_attn.", "self_attn._fsdp_wrapped_module."),
    ];
    for other in others {
        assert_eq!(hidden(opened(other).unwrap()), plain);
    }
    let other = |name: &str| name.replace("model.", "other.");
    let told = opened(&other).unwrap_err().to_string();
    assert!(told.contains("`other.embed_tokens.weight`") && told.contains("`model`"), "{told}");
}

#[test]
fn tensors_of_another_attention_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |names: &[&str]| {
        let mut all = weights();
        for name in names {
            all.insert((*name).to_owned(), (vec![HEAD_WIDTH], vec![1.0; HEAD_WIDTH]));
        }
        write_hugging_face_of(folder.path(), all);
        Pretrained::open(folder.path())
    };
    let norms =
        ["model.layers.1.self_attn.q_norm.weight", "model.layers.1.self_attn.k_norm.weight"];
    match with(&norms) {
        Err(ModelError::Unsupported { path, reason }) => {
            assert!(path.ends_with("model.safetensors"), "{path:?}");
            assert!(norms.iter().all(|name| reason.contains(name)), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // A layer more than the configuration says.
    assert!(with(&["model.layers.2.input_layernorm.weight"]).is_err());
    // Frequencies that old files hold, and what comes after the layers.
    assert!(with(&["model.layers.0.self_attn.rotary_emb.inv_freq", "score.weight"]).is_ok());
}

/// Dropout, which is for training, is switched off, and spans are trimmed once.
#[test]
fn a_text_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write_hugging_face(folder.path());
    let path = folder.path().join("tokenizer.json");
    let whole: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let encode = |tokenizer: &serde_json::Value| {
        fs::write(&path, tokenizer.to_string()).unwrap();
        let model = Pretrained::open(folder.path()).unwrap();
        let tokens = model.tokenizer.encode("ab c", None).unwrap();
        (tokens.pieces, tokens.spans)
    };
    let pieces = ["ab", "Ġc"].map(str::to_owned).to_vec();
    assert_eq!(encode(&whole), (pieces.clone(), vec![0..2, 2..4]));
    // No pair would ever be merged.
    let mut dropping = whole.clone();
    dropping["model"]["dropout"] = json!(1.0);
    assert_eq!(encode(&dropping), (pieces.clone(), vec![0..2, 2..4]));
    // The space belongs to no word.
    let mut trimming = whole;
    trimming["post_processor"] = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    assert_eq!(encode(&trimming), (pieces, vec![0..2, 3..4]));
}
