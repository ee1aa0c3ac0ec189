//! How the byte-level tokenizers of GGUF files cut a text into words.
//!
//! A file has the *name* of the rule alone (`tokenizer.ggml.pre`); the rules are those that the models of
//! that name were trained with.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Result, SplitDelimiterBehavior};

/// Rule that splits a text into words, and its names in files.
pub(super) struct Rule {
    names: &'static [&'static str],
    words: Words,
    /// Whether words that the vocabulary has are not put together by merges.
    pub whole_words: bool,
    /// Whether a token for the beginning of the text comes first in files that do not say so.
    pub begins: bool,
    /// Whether characters are composed first (NFC).
    pub composes: bool,
}

enum Words {
    /// GPT-2's.
    Gpt2,
    /// GPT-2's, every digit on its own.
    Digits,
    /// All matches of a regular expression.
    Matches(&'static str),
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's with every digit on its own.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Mistral's from Nemo on: words end where a capital follows a small letter.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GPT-4o's, which has contractions with their words and digits by threes.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Rule =
    Rule { names: &[], words: Words::Gpt2, whole_words: false, begins: false, composes: false };

const RULES: [Rule; 7] = [
    Rule { names: &["gpt-2"], ..PLAIN },
    Rule { names: &["smollm"], words: Words::Digits, ..PLAIN },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"],
        words: Words::Matches(LLAMA_3),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    // Phi-4's files have the name of another model that cuts words so.
    Rule { names: &["dbrx", "smaug-bpe"], words: Words::Matches(LLAMA_3), ..PLAIN },
    // Phi-4-mini's.
    Rule { names: &["gpt-4o"], words: Words::Matches(GPT_4O), ..PLAIN },
    Rule {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: Words::Matches(QWEN_2),
        composes: true,
        ..PLAIN
    },
    Rule {
        names: &["tekken"],
        words: Words::Matches(TEKKEN),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
];

impl Rule {
    /// The rule of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    /// The names of all rules.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RULES.iter().flat_map(|rule| rule.names).copied()
    }

    /// The cut into words, each written byte by byte.
    pub fn cut(&self) -> Result<PreTokenizerWrapper> {
        let bytes = |words| PreTokenizerWrapper::from(ByteLevel::new(false, false, words));
        let first: PreTokenizerWrapper = match self.words {
            Words::Gpt2 => return Ok(bytes(true)),
            Words::Digits => Digits::new(true).into(),
            Words::Matches(pattern) => {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into()
            }
        };
        let words = matches!(self.words, Words::Digits);
        Ok(Sequence::new(vec![first, bytes(words)]).into())
    }
}
