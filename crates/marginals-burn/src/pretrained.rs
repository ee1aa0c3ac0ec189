//! Transformers that others have trained: from a path to a model that can be run, its weights and its
//! tokenizer.
//!
//! A transformer of any family hands each layer's queries, keys and values to an [`Attend`], which asks
//! the layer's posterior what it wants to know and returns its mean.

pub mod activation;
pub mod attend;
pub mod config;
pub mod effects;
pub mod families;
mod gguf;
mod names;
pub mod norm;
pub mod published;
pub mod relative;
pub mod rotary;
mod settings;
pub mod tokens;
pub mod trained_byte_lm;
mod vocabulary;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use ndarray::Array4;

use self::attend::{Attend, Visible};
use self::gguf::Architecture;
use self::published::Published;
use self::settings::Settings;
use self::tokens::{TextTokenizer, Tokens, sentence_model, tokenizer_from_gguf, word_pieces};
use self::trained_byte_lm::{FAMILY as BYTE_LM, TrainedByteLm};
use self::vocabulary::Vocabulary;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::GgufFile;
use crate::checkpoint::safetensors::SafetensorsFile;
use crate::checkpoint::sharded::Sharded;
use crate::error::ModelError;

/// A transformer of one of the families that are read.
///
/// Its forward pass is in three steps, so that work can be shared: [`embed`](Self::embed), each
/// [`layer`](Self::layer) in turn, and for language models [`logits`](Self::logits).
#[derive(Debug)]
pub enum Transformer {
    /// An encoder or decoder of one of the published [`families`].
    Published(Published),
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

impl Pretrained {
    /// Opens a folder with `config.json`, `model.safetensors` (or several such files) and
    /// `tokenizer.json` (or `tokenizer.model` or, of a BERT, `vocab.txt`), a GGUF file, or a folder with exactly one GGUF file.
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
        let (transformer, tokenizer) = if about.is_file() {
            open_gguf(path)?
        } else if path.join("config.json").exists() {
            let transformer = Transformer::open(path)?;
            let tokenizer = match &transformer {
                Transformer::ByteLm(_) => TextTokenizer::bytes(),
                Transformer::Published(_) => open_tokenizer(path)?,
            };
            (transformer, tokenizer)
        } else {
            open_gguf(&only_gguf_in(path)?)?
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
        self.transformer.run(tokens, attend).map(drop)
    }
}

impl Transformer {
    /// Opens the `config.json` and the weights of a folder, or a GGUF file; it needs no tokenizer.
    ///
    /// # Errors
    /// [`ModelError`], naming the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        if folder.is_file() {
            let file = GgufFile::open(folder)?;
            return gguf_transformer(&file, Architecture::of(&file)?);
        }
        let path = folder.join("config.json");
        let config = fs::read_to_string(&path).map_err(ModelError::read(&path))?;
        let settings = Settings::new(&path, &config)?;
        let device = Device::flex();
        let model_type = match settings.text("model_type")? {
            // The oldest BERTs do not say what they are; they alone have types of sentences.
            None if settings.get("type_vocab_size").is_some() => "bert",
            None => "(not given)",
            Some(BYTE_LM) => {
                let weights = open_weights(folder)?;
                return TrainedByteLm::load(&path, &config, &*weights, &device).map(Self::ByteLm);
            }
            Some(name) => name,
        };
        let Some(description) = families::read(&settings, model_type)? else {
            let read: Vec<String> =
                families::names().chain([BYTE_LM]).map(|name| format!("`{name}`")).collect();
            return Err(settings.unsupported(format!(
                "its `model_type` is `{model_type}`; {} are read",
                read.join(", ")
            )));
        };
        let weights = open_weights(folder)?;
        let published = Published::load(description, &*weights, &device)?;
        Ok(Self::Published(published))
    }

    /// The family's name, as files write it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Published(published) => published.config().family,
            Self::ByteLm(_) => BYTE_LM,
        }
    }

    /// Whether it predicts the next token: its [`logits`](Self::logits) are there.
    pub fn is_language_model(&self) -> bool {
        match self {
            Self::Published(published) => published.has_head(),
            Self::ByteLm(_) => true,
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        match self {
            Self::Published(published) => published.config().layers.len(),
            Self::ByteLm(lm) => lm.config().layers,
        }
    }

    /// Query heads per layer.
    pub fn heads(&self) -> usize {
        match self {
            Self::Published(published) => published.config().heads,
            Self::ByteLm(lm) => lm.config().block.attention.heads,
        }
    }

    /// Key and value heads per layer.
    pub fn key_heads(&self) -> usize {
        match self {
            Self::Published(published) => published.config().key_heads,
            Self::ByteLm(lm) => {
                let attention = &lm.config().block.attention;
                attention.key_heads.unwrap_or(attention.heads)
            }
        }
    }

    /// The longest text, in tokens; `None`, any.
    pub fn context(&self) -> Option<usize> {
        match self {
            Self::Published(published) => Some(published.config().context),
            Self::ByteLm(lm) => lm.context(),
        }
    }

    /// Which keys a query of a layer may pick.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn visible(&self, layer: usize) -> Visible {
        match self {
            Self::Published(published) => published.config().layers[layer].visible,
            Self::ByteLm(lm) => Visible::of(&lm.config().block.attention.model),
        }
    }

    /// The hidden state before the first layer, `[N, width]`.
    ///
    /// # Errors
    /// [`ModelError`], when the text does not fit the model.
    pub fn embed(&self, tokens: &Tokens) -> Result<Tensor<2>, ModelError> {
        match self {
            Self::Published(published) => published.embed(tokens),
            Self::ByteLm(lm) => lm.embed(tokens),
        }
    }

    /// The hidden state after a layer, of that before it; the layer's attention is answered by `attend`.
    ///
    /// # Errors
    /// [`ModelError::Attention`] with what `attend` reports.
    ///
    /// # Panics
    /// If there is no layer `index`.
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<2>,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        match self {
            Self::Published(published) => published.layer(index, hidden, attend),
            Self::ByteLm(lm) => lm.layer(index, hidden, attend),
        }
    }

    /// The hidden state after a layer of several texts of the same length, one after the other.
    pub(crate) fn layer_of_texts(
        &self,
        index: usize,
        hidden: Tensor<2>,
        texts: usize,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        match self {
            Self::Published(published) => published.layer_of_texts(index, hidden, texts, attend),
            Self::ByteLm(lm) => lm.layer_of_texts(index, hidden, texts, attend),
        }
    }

    /// The hidden state after a layer, of that before it and of what its attention answers, `[B, H, N, D]`.
    pub(crate) fn after_attention(
        &self,
        index: usize,
        hidden: Tensor<2>,
        context: &Array4<f32>,
    ) -> Result<Tensor<2>, ModelError> {
        match self {
            Self::Published(published) => Ok(published.after_attention(index, hidden, context)),
            Self::ByteLm(lm) => lm.after_attention(index, hidden, context),
        }
    }

    /// The hidden state after the last layer as the head reads it.
    pub(crate) fn finish(&self, hidden: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        match self {
            Self::Published(published) => Ok(published.finish(hidden)),
            Self::ByteLm(lm) => lm.finish(hidden),
        }
    }

    /// Vectors of the tokens that may come next; `None` where the model is no language model.
    pub(crate) fn vocabulary(&self) -> Option<Vocabulary> {
        match self {
            Self::Published(published) => published.vocabulary(),
            Self::ByteLm(lm) => Some(lm.vocabulary()),
        }
    }

    /// Scores of the token after each, log-probabilities up to a constant of the row, `[N, vocabulary]`, of
    /// rows of the hidden state after the last layer; `None` where the model is no language model.
    ///
    /// # Errors
    /// [`ModelError`], when the rows have another width.
    pub fn logits(&self, hidden: Tensor<2>) -> Result<Option<Tensor<2>>, ModelError> {
        match self {
            Self::Published(published) => Ok(published.logits(hidden)),
            Self::ByteLm(lm) => lm.logits(hidden).map(Some),
        }
    }

    /// The hidden state after the last layer, `[N, width]`.
    ///
    /// # Errors
    /// As [`Self::embed`] and [`Self::layer`].
    pub fn run(&self, tokens: &Tokens, attend: &mut dyn Attend) -> Result<Tensor<2>, ModelError> {
        let mut hidden = self.embed(tokens)?;
        for index in 0..self.layers() {
            hidden = self.layer(index, hidden, attend)?;
        }
        Ok(hidden)
    }
}

fn open_gguf(path: &Path) -> Result<(Transformer, TextTokenizer), ModelError> {
    let file = GgufFile::open(path)?;
    // What the file is is said before what its tokenizer is.
    let architecture = Architecture::of(&file)?;
    let tokenizer = tokenizer_from_gguf(&file)?;
    Ok((gguf_transformer(&file, architecture)?, tokenizer))
}

fn gguf_transformer(
    file: &GgufFile,
    architecture: &'static Architecture,
) -> Result<Transformer, ModelError> {
    let settings = Settings::of(file.path(), architecture.config(file)?);
    let tensors = gguf::Tensors::new(file, architecture)?;
    let description = families::read(&settings, architecture.family)?.ok_or_else(|| {
        settings.unsupported(format!("there is no family `{}`", architecture.family))
    })?;
    let published = Published::load(description, &tensors, &Device::flex())?;
    Ok(Transformer::Published(published))
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

/// The tokenizer of a model folder: `tokenizer.json`, SentencePiece's `tokenizer.model`, or the vocabulary of
/// a BERT alone.
fn open_tokenizer(folder: &Path) -> Result<TextTokenizer, ModelError> {
    let (json, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
    if json.exists() {
        return TextTokenizer::open(&json);
    }
    let pieces = folder.join("tokenizer.model");
    if pieces.exists() {
        return sentence_model(&pieces);
    }
    if vocabulary.exists() {
        return word_pieces(&vocabulary);
    }
    let other = ["vocab.json", "spiece.model", "sentencepiece.bpe.model"];
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
