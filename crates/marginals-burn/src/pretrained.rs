//! Transformers that others have trained: from a path to a model that can be run, its weights and its
//! tokenizer.
//!
//! A transformer of any family hands each layer's queries, keys and values to an [`Attend`], which asks
//! the layer's posterior what it wants to know and returns its mean.

pub mod activation;
pub mod attend;
pub mod bert;
pub mod llama;
pub mod tokens;
pub mod trained_byte_lm;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Deserialize;

use self::attend::{Attend, Visible};
use self::bert::{Bert, BertConfig};
use self::llama::{Fault, Llama, LlamaConfig};
use self::tokens::{TextTokenizer, Tokens, tokenizer_from_gguf, word_pieces};
use self::trained_byte_lm::{FAMILY as BYTE_LM, TrainedByteLm};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::GgufFile;
use crate::checkpoint::safetensors::SafetensorsFile;
use crate::checkpoint::sharded::Sharded;
use crate::error::ModelError;

/// A transformer of one of the families that are read.
#[derive(Debug)]
pub enum Transformer {
    /// An encoder, bidirectional unless its configuration makes a decoder of it.
    Bert(Bert),
    /// A causal decoder.
    Llama(Llama),
    /// A causal decoder over bytes, its attention any model.
    ByteLm(TrainedByteLm),
}

/// A trained transformer and the tokenizer it was trained with.
#[derive(Debug)]
pub struct Pretrained {
    /// The folder's or file's name.
    pub name: String,
    /// The weights.
    pub transformer: Transformer,
    /// The tokenizer.
    pub tokenizer: TextTokenizer,
}

#[derive(Deserialize)]
struct Family {
    model_type: Option<String>,
    /// Setting that BERT alone has; the oldest of its files do not say what they are.
    type_vocab_size: Option<serde_json::Value>,
}

impl Family {
    fn name(&self) -> Option<&str> {
        match (self.model_type.as_deref(), &self.type_vocab_size) {
            (None, Some(_)) => Some("bert"),
            (name, _) => name,
        }
    }
}

impl Pretrained {
    /// Opens a folder with `config.json`, `model.safetensors` (or several such files) and
    /// `tokenizer.json` (or, of a BERT, `vocab.txt`), a GGUF file, or a folder with exactly one GGUF file.
    ///
    /// # Errors
    /// [`ModelError`], naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let about = fs::metadata(path).map_err(ModelError::read(path))?;
        let name =
            path.canonicalize().ok().as_deref().unwrap_or(path).file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            );
        let device = Device::flex();
        let (transformer, tokenizer) = if about.is_file() {
            open_gguf(path, &device)?
        } else if path.join("config.json").exists() {
            open_folder(path, &device)?
        } else {
            open_gguf(&only_gguf_in(path)?, &device)?
        };
        Ok(Pretrained { name, transformer, tokenizer })
    }

    /// A language model over bytes from the contents of its two files; `name` is for messages.
    ///
    /// # Errors
    /// [`ModelError`], as [`Self::open`].
    pub fn byte_lm(name: &str, config: &str, weights: Vec<u8>) -> Result<Self, ModelError> {
        let path = Path::new(name);
        let weights = SafetensorsFile::from_bytes(path, weights)?;
        let lm = TrainedByteLm::load(path, config, &weights, &Device::flex())?;
        let (transformer, tokenizer) = (Transformer::ByteLm(lm), TextTokenizer::bytes());
        Ok(Pretrained { name: name.to_owned(), transformer, tokenizer })
    }

    /// Runs the model for its attention alone.
    ///
    /// # Errors
    /// [`ModelError`] when the text does not fit the model, or what `attend` reports.
    pub fn run(&self, tokens: &Tokens, attend: &mut dyn Attend) -> Result<(), ModelError> {
        match &self.transformer {
            Transformer::Bert(bert) => bert.forward(tokens, attend).map(drop),
            Transformer::Llama(llama) => llama.forward(tokens, attend).map(drop),
            Transformer::ByteLm(lm) => lm.run(tokens, attend).map(drop),
        }
    }
}

impl Transformer {
    /// The family's name, as files write it.
    pub fn family(&self) -> &'static str {
        match self {
            Transformer::Bert(_) => "bert",
            Transformer::Llama(_) => "llama",
            Transformer::ByteLm(_) => BYTE_LM,
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        match self {
            Transformer::Bert(bert) => bert.config().num_hidden_layers,
            Transformer::Llama(llama) => llama.config().layers,
            Transformer::ByteLm(lm) => lm.config().layers,
        }
    }

    /// Query heads per layer.
    pub fn heads(&self) -> usize {
        match self {
            Transformer::Bert(bert) => bert.config().num_attention_heads,
            Transformer::Llama(llama) => llama.config().heads,
            Transformer::ByteLm(lm) => lm.config().block.attention.heads,
        }
    }

    /// Key and value heads per layer.
    pub fn key_heads(&self) -> usize {
        match self {
            Transformer::Bert(bert) => bert.config().num_attention_heads,
            Transformer::Llama(llama) => llama.config().key_heads,
            Transformer::ByteLm(lm) => {
                let attention = &lm.config().block.attention;
                attention.key_heads.unwrap_or(attention.heads)
            }
        }
    }

    /// The longest text, in tokens; `None`, any.
    pub fn context(&self) -> Option<usize> {
        match self {
            Transformer::Bert(bert) => Some(bert.config().max_position_embeddings),
            Transformer::Llama(llama) => Some(llama.config().context),
            Transformer::ByteLm(lm) => lm.context(),
        }
    }

    /// Which keys a query may pick.
    pub fn visible(&self) -> Visible {
        match self {
            Transformer::Bert(bert) => bert.config().visible(),
            Transformer::Llama(llama) => llama.config().visible,
            Transformer::ByteLm(_) => Visible::Before,
        }
    }
}

fn open_gguf(path: &Path, device: &Device) -> Result<(Transformer, TextTokenizer), ModelError> {
    let file = GgufFile::open(path)?;
    match file.text("general.architecture") {
        Some("llama") => {}
        other => {
            return Err(file.unsupported(format!(
                "its architecture is `{}`; `llama` is read",
                other.unwrap_or("(not given)")
            )));
        }
    }
    let tokenizer = tokenizer_from_gguf(&file)?;
    let llama = Llama::load(LlamaConfig::from_gguf(&file)?, &file, device)?;
    Ok((Transformer::Llama(llama), tokenizer))
}

fn open_folder(path: &Path, device: &Device) -> Result<(Transformer, TextTokenizer), ModelError> {
    let config_path = path.join("config.json");
    let config = fs::read_to_string(&config_path).map_err(ModelError::read(&config_path))?;
    let damaged = |reason: String| ModelError::Damaged { path: config_path.clone(), reason };
    let unsupported = |reason| ModelError::Unsupported { path: config_path.clone(), reason };
    let family: Family =
        serde_json::from_str(&config).map_err(|error| damaged(error.to_string()))?;
    let weights = || open_weights(path);
    let transformer = match family.name() {
        Some("bert") => {
            let config: BertConfig =
                serde_json::from_str(&config).map_err(|error| damaged(error.to_string()))?;
            if let Some(fault) = config.fault() {
                return Err(damaged(fault));
            }
            if let Some(reason) = config.unsupported() {
                return Err(unsupported(reason));
            }
            Transformer::Bert(Bert::load(config, &*weights()?, device)?)
        }
        Some("llama") => {
            let config = LlamaConfig::from_json(&config).map_err(|fault| match fault {
                Fault::Damaged(reason) => damaged(reason),
                Fault::Unsupported(reason) => unsupported(reason),
            })?;
            Transformer::Llama(Llama::load(config, &*weights()?, device)?)
        }
        Some(BYTE_LM) => {
            let lm = TrainedByteLm::load(&config_path, &config, &*weights()?, device)?;
            return Ok((Transformer::ByteLm(lm), TextTokenizer::bytes()));
        }
        other => {
            return Err(unsupported(format!(
                "its `model_type` is `{}`; `bert`, `llama` and `byte-lm` are read",
                other.unwrap_or("(not given)")
            )));
        }
    };
    Ok((transformer, open_tokenizer(path)?))
}

/// The weights of a model folder: one safetensors file or several.
fn open_weights(folder: &Path) -> Result<Box<dyn Checkpoint>, ModelError> {
    let one = folder.join("model.safetensors");
    if one.exists() {
        return Ok(Box::new(SafetensorsFile::open(&one)?));
    }
    if let Some(several) = Sharded::open(folder)? {
        return Ok(Box::new(several));
    }
    let reason = match folder.join("pytorch_model.bin").exists() {
        true => "its weights are in `pytorch_model.bin`, a file that could run code when it is read; \
                 in the folder, `python -c \"import torch; from safetensors.torch import save_file; \
                 w = torch.load('pytorch_model.bin', map_location='cpu', weights_only=True); \
                 save_file({n: x.clone() for n, x in w.items()}, 'model.safetensors')\"` converts it"
            .to_owned(),
        false => format!("it has a config.json but no `model.safetensors`; {FOLDER}"),
    };
    Err(ModelError::NotAModel { path: folder.to_path_buf(), reason })
}

/// The tokenizer of a model folder: `tokenizer.json`, or the vocabulary of a BERT alone.
fn open_tokenizer(folder: &Path) -> Result<TextTokenizer, ModelError> {
    let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
    if json.exists() {
        return TextTokenizer::open(&json);
    }
    if vocabulary.exists() {
        return word_pieces(&vocabulary);
    }
    let other = ["tokenizer.model", "vocab.json", "spiece.model", "sentencepiece.bpe.model"];
    let reason = match other.into_iter().find(|name| folder.join(name).exists()) {
        Some(name) => format!(
            "its tokenizer is in `{name}`, and `tokenizer.json` is read; in the folder, `python -c \
             \"import transformers; \
             transformers.AutoTokenizer.from_pretrained('.').save_pretrained('.')\"` makes one"
        ),
        None => format!("it has a config.json but no `tokenizer.json`; {FOLDER}"),
    };
    Err(ModelError::NotAModel { path: folder.to_path_buf(), reason })
}

const FOLDER: &str = "a model folder holds config.json, model.safetensors (or several, with their index) \
                      and tokenizer.json";

fn only_gguf_in(folder: &Path) -> Result<PathBuf, ModelError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(ModelError::read(folder))? {
        let path = entry.map_err(ModelError::read(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push(path);
        }
    }
    let reason = match found.len() {
        1 => return Ok(found.remove(0)),
        0 => "it holds neither a config.json nor a GGUF file; a model is a folder with \
              config.json, model.safetensors and tokenizer.json, or a GGUF file"
            .to_owned(),
        count => format!("it holds {count} GGUF files; name one of them"),
    };
    Err(ModelError::NotAModel { path: folder.to_path_buf(), reason })
}
