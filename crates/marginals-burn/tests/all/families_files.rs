//! Files of the families as their users have them: other prefixes, older settings, and what is refused.

use std::collections::BTreeMap;
use std::fs;

use crate::families::{Expected, folder};
use marginals_burn::{ModelError, PosteriorMean, Transformer, Visible};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Tensors by name, with the kind of their numbers and their shape.
type Weights = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Prefix of the base class in the recorded file of each family.
const BASES: [(&str, &str); 9] = [
    ("bert", "bert."),
    ("xlm_roberta", "roberta."),
    ("distilbert", "distilbert."),
    ("modernbert", "model."),
    ("gpt2", "transformer."),
    ("llama", "model."),
    ("qwen3", "model."),
    ("phi3", "model."),
    ("gemma3", "model."),
];

/// Opens a recorded model with other settings and weights.
fn opened(
    name: &str,
    settings: impl FnOnce(&mut Value),
    weights: impl FnOnce(Weights) -> Weights,
) -> Result<Transformer, ModelError> {
    let recorded = folder().join(name);
    let file = fs::read(recorded.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let own = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    let changed = weights(own.collect());
    let views = changed.iter().map(|(name, (kind, shape, bytes))| {
        (name, TensorView::new(*kind, shape.clone(), bytes).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(recorded.join("config.json")).unwrap()).unwrap();
    settings(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Transformer::open(folder.path())
}

fn with_weights(
    name: &str,
    weights: impl FnOnce(Weights) -> Weights,
) -> Result<Transformer, ModelError> {
    opened(name, |_| {}, weights)
}

fn with_settings(name: &str, settings: impl FnOnce(&mut Value)) -> Result<Transformer, ModelError> {
    opened(name, settings, |weights| weights)
}

fn renamed(weights: Weights, rename: impl Fn(&str) -> String) -> Weights {
    weights.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect()
}

/// The hidden state after the last layer for the recorded text.
fn hidden(name: &str, model: &Transformer) -> Vec<f32> {
    let tokens = Expected::read(&folder().join(name)).tokens();
    let hidden = model.run(&tokens, &mut PosteriorMean).unwrap();
    hidden.into_data().try_into_vec().unwrap()
}

/// Why a model is refused as not supported.
fn unsupported(found: Result<Transformer, ModelError>) -> String {
    match found {
        Err(ModelError::Unsupported { reason, .. }) => reason,
        other => panic!("not refused as unsupported: {other:?}"),
    }
}

fn damaged(found: Result<Transformer, ModelError>) -> String {
    match found {
        Err(ModelError::Damaged { reason, .. }) => reason,
        other => panic!("not refused as damaged: {other:?}"),
    }
}

#[test]
fn weights_go_by_every_prefix_of_their_names() {
    for (name, base) in BASES {
        let plain = hidden(name, &with_weights(name, |weights| weights).unwrap());
        let others: [&dyn Fn(&str) -> String; 6] = [
            &|name| format!("_orig_mod.{name}"),
            &|name| format!("module.{name}"),
            &|name| format!("base_model.{name}"),
            &|name| name.replacen(base, "encoder.", 1),
            &|name| name.replacen(base, "text.model.", 1),
            &|name| name.replacen(base, "", 1),
        ];
        for other in others {
            let model = with_weights(name, |weights| renamed(weights, other));
            assert_eq!(hidden(name, &model.unwrap()), plain, "{name}");
        }
        let other = |name: &str| name.replacen(base, "vision_tower.", 1);
        let told = unsupported(with_weights(name, |weights| renamed(weights, other)));
        assert!(told.contains("`vision_tower."), "{told}");
        let twice = unsupported(with_weights(name, |weights| {
            let second = renamed(weights.clone(), |name| format!("second.{name}"));
            weights.into_iter().chain(second).collect()
        }));
        assert!(twice.contains("two models"), "{twice}");
    }
}

#[test]
fn a_head_is_found_where_its_model_is() {
    let logits = |model: &Transformer| {
        let tokens = Expected::read(&folder().join("llama")).tokens();
        let hidden = model.embed(&tokens).unwrap();
        let logits = model.logits(hidden).unwrap()?;
        Some(logits.into_data().try_into_vec::<f32>().unwrap())
    };
    let plain = logits(&with_weights("llama", |weights| weights).unwrap()).unwrap();
    let wrapped =
        with_weights("llama", |weights| renamed(weights, |name| format!("policy.{name}")));
    assert_eq!(logits(&wrapped.unwrap()).unwrap(), plain);
    let without = |mut weights: Weights| {
        weights.remove("lm_head.weight").unwrap();
        weights
    };
    // The base class has none, unless its words are the head as well.
    assert_eq!(logits(&with_weights("llama", without).unwrap()), None);
    let tie = |config: &mut Value| config["tie_word_embeddings"] = json!(true);
    let tied = logits(&opened("llama", tie, without).unwrap()).unwrap();
    assert_ne!(tied, plain);
    // What a tied model keeps under the head's name is not its head.
    assert_eq!(logits(&with_settings("llama", tie).unwrap()).unwrap(), tied);
}

#[test]
fn tensors_that_a_family_has_not_are_refused_by_name() {
    for (name, base) in BASES {
        for more in ["extra.weight", "layers.9.more.weight"] {
            let extra = format!("{base}{more}");
            let tensor = (Dtype::F16, vec![1], vec![0, 0]);
            let told = unsupported(with_weights(name, |mut weights| {
                weights.insert(extra.clone(), tensor.clone());
                weights
            }));
            assert!(told.contains(&format!("`{extra}`")), "{told}");
        }
        let first = |weights: &Weights| {
            weights.keys().find(|name| name.starts_with(base) && name.contains(".1.")).cloned()
        };
        let mut gone = String::new();
        let told = damaged(with_weights(name, |mut weights| {
            gone = first(&weights).unwrap();
            weights.remove(&gone).unwrap();
            weights
        }));
        assert!(told.contains(&format!("`{gone}` is missing")), "{name}: {told}");
        let harmless = ["pooler.dense.weight", "embeddings.position_ids"];
        let with_harmless = with_weights(name, |mut weights| {
            let tensor = (Dtype::F16, vec![1], vec![0, 0]);
            weights.extend(harmless.map(|end| (format!("{base}{end}"), tensor.clone())));
            weights
        });
        assert!(with_harmless.is_ok(), "{name}");
    }
}

#[test]
fn weights_of_quantising_tools_are_called_by_the_method() {
    for (end, method) in [
        ("qweight", "GPTQ or AWQ"),
        ("weight.absmax", "bitsandbytes"),
        ("SCB", "bitsandbytes"),
        ("weight_scale_inv", "factors of blocks"),
        ("weight_packed", "compressed-tensors"),
    ] {
        let told = unsupported(with_weights("llama", |weights| {
            renamed(weights, |name| match name.contains("q_proj") {
                true => name.replace("weight", end),
                false => name.to_owned(),
            })
        }));
        assert!(told.contains(method) && told.contains("q_proj"), "{told}");
    }
    let told = unsupported(with_settings("llama", |config| {
        config["quantization_config"] = json!({ "quant_method": "awq", "bits": 4 });
    }));
    assert!(told.contains("awq") && told.contains("`quantization_config`"), "{told}");
    let told = unsupported(with_weights("llama", |mut weights| {
        let name = "model.layers.0.self_attn.q_proj.lora_A.weight".to_owned();
        weights.insert(name, (Dtype::F16, vec![1], vec![0, 0]));
        weights
    }));
    assert!(told.contains("LoRA") && told.contains("merge_and_unload"), "{told}");
}

#[test]
fn settings_that_make_another_model_are_refused_by_name() {
    for (name, key, value) in [
        ("bert", "position_embedding_type", json!("alibi")),
        ("bert", "add_cross_attention", json!(true)),
        ("bert", "hidden_act", json!("snake")),
        ("roberta", "position_embedding_type", json!("relative_key")),
        ("distilbert", "is_decoder", json!(true)),
        ("modernbert", "rope_scaling", json!({ "rope_type": "linear", "factor": 2.0 })),
        ("gpt2", "add_cross_attention", json!(true)),
        ("gpt2", "sliding_window", json!(4)),
        ("llama", "sliding_window", json!(4)),
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("llama", "query_pre_attn_scalar", json!(12)),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("qwen2", "layer_types", json!(["full_attention", "chunked_attention", "full_attention"])),
        ("qwen3", "dual_chunk_attention_config", json!({ "chunk_size": 8 })),
        ("phi3", "rope_parameters", json!({ "rope_type": "axial" })),
        ("gemma2", "use_bidirectional_attention", json!(true)),
        ("gemma3", "attn_logit_softcapping", json!(30.0)),
    ] {
        let told = unsupported(with_settings(name, |config| config[key] = value));
        let key = if key == "rope_parameters" { "rope_type" } else { key };
        assert!(told.contains(&format!("`{key}`")), "{name}: {told}");
    }
    let told = unsupported(with_settings("gemma3", |config| {
        config["model_type"] = json!("gemma3");
    }));
    assert!(told.contains("`gemma3`") && told.contains("`gemma3_text`"), "{told}");
    assert!(told.contains("images"), "{told}");
    let told = unsupported(with_settings("bert", |config| config["model_type"] = json!("opt")));
    assert!(told.contains("`opt`") && told.contains("`gpt2`"), "{told}");
}

#[test]
fn settings_that_cannot_be_true_are_named() {
    for (name, key, value) in [
        ("bert", "num_attention_heads", json!(5)),
        ("bert", "hidden_size", json!(0)),
        ("gpt2", "n_layer", json!(1_000_000_000_000_u64)),
        ("llama", "num_hidden_layers", json!(1_000_000)),
        ("llama", "num_key_value_heads", json!(3)),
        ("llama", "hidden_size", json!("32")),
        ("llama", "rms_norm_eps", json!(-1.0)),
        ("llama", "head_dim", json!(7)),
        ("gemma3", "sliding_window", json!(null)),
        ("qwen2", "layer_types", json!(["full_attention"])),
        ("roberta", "pad_token_id", json!(64)),
    ] {
        let told = damaged(with_settings(name, |config| config[key] = value));
        let called = match key {
            "num_key_value_heads" => "3 key heads".to_owned(),
            "head_dim" => "7 coordinates".to_owned(),
            "pad_token_id" => "context".to_owned(),
            key => format!("`{key}`"),
        };
        assert!(told.contains(&called), "{name}, {key}: {told}");
    }
    let told = damaged(with_settings("llama", |config| {
        config.as_object_mut().unwrap().remove("hidden_size");
    }));
    assert!(told.contains("`hidden_size` is missing"), "{told}");
}

/// Replaces the settings of a newer file by those that an older one has.
fn older(config: &mut Value, without: &[&str], with: Value) {
    let config = config.as_object_mut().unwrap();
    without.iter().for_each(|key| drop(config.remove(*key).unwrap()));
    config.extend(with.as_object().unwrap().clone());
}

#[test]
fn older_files_say_the_same_in_other_words() {
    let same = |name: &str, without: &[&str], with: Value| {
        let newer = hidden(name, &with_settings(name, |_| {}).unwrap());
        let model = with_settings(name, |config| older(config, without, with)).unwrap();
        assert_eq!(hidden(name, &model), newer, "{name}");
    };
    let yarn = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 });
    same("qwen3", &["rope_parameters"], json!({ "rope_theta": 1e6, "rope_scaling": yarn }));
    let factors = json!({
        "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 1.5, 2.5], "type": "su",
    });
    let older_phi3 =
        json!({ "rope_theta": 1e4, "partial_rotary_factor": 0.75, "rope_scaling": factors });
    same("phi3", &["rope_parameters"], older_phi3);
    let older_gemma = json!({
        "rope_theta": 1e6, "rope_local_base_freq": 1e3, "sliding_window_pattern": 2,
        "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
    });
    same("gemma3", &["rope_parameters", "layer_types"], older_gemma);
    same("gemma2", &["rope_parameters", "layer_types"], json!({ "rope_theta": 1e4 }));
    let older_modernbert = json!({
        "global_rope_theta": 160_000.0, "local_rope_theta": 1e4, "global_attn_every_n_layers": 2,
    });
    same("modernbert", &["rope_parameters", "layer_types"], older_modernbert);
    same("qwen2", &["rope_parameters", "layer_types"], json!({ "rope_theta": 1e4 }));
}

#[test]
fn windows_are_as_wide_as_files_say() {
    let visible = |name: &str, key: &str, value: Option<Value>| {
        let model = with_settings(name, |config| {
            let config = config.as_object_mut().unwrap();
            config.remove(key);
            config.extend(value.map(|value| (key.to_owned(), value)));
        });
        let model = model.unwrap();
        (0..model.layers()).map(|layer| model.visible(layer)).collect::<Vec<_>>()
    };
    let behind = |left| Visible::Window { left, right: 0 };
    // transformers' default; null is none.
    assert_eq!(visible("mistral", "sliding_window", None), [behind(4095); 3]);
    assert_eq!(visible("mistral", "sliding_window", Some(json!(null))), [Visible::Before; 3]);
    assert_eq!(visible("phi3", "sliding_window", None), [Visible::Before; 3]);
    // Read as an encoder, its window reaches to both sides.
    let both = Visible::Window { left: 6, right: 6 };
    assert_eq!(visible("mistral", "is_causal", Some(json!(false))), [both; 3]);
    assert_eq!(visible("gpt2", "is_causal", Some(json!(false))), [Visible::All; 3]);
}
