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
    /// All matches of the first of these regular expressions, then those of each other one in what lies between.
    Matches(&'static [&'static str]),
}

const GPT_2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's with every digit on its own.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Mistral's from Nemo on: words end where a capital follows a small letter.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GPT-4o's, which has contractions with their words and digits by threes.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Seed-Coder's: Qwen 2's, with line breaks apart from signs.
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Chinese, Japanese and Korean characters as DeepSeek's first models have them, with all that lies between.
const DEEPSEEK_HAN: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";

const DEEPSEEK_CODER: &[&str] = &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, r"\p{N}"];

/// With letters that are large or small, and the signs of ASCII, of full width and of Chinese, by their numbers.
const DEEPSEEK_LLM: &[&str] = &[
    r"[\r\n]",
    concat!(
        r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
        r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
        r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
        r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
        r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
        r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
        r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
        r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
        r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
        r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
        r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
        r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
        r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
        r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
        r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
        r"\x{1E900}-\x{1E943}]+",
    ),
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
    r"\s+$",
    DEEPSEEK_HAN,
    r"\p{N}",
];

const DEEPSEEK_3: &[&str] = &[
    r"\p{N}{1,3}",
    r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// Words of files that were made before rules had names, and say so: no model's, but llama.cpp's.
const DEFAULT: &[&str] = &[r"[\p{P}$+<=>^~|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"];

const PLAIN: Rule =
    Rule { names: &[], words: Words::Gpt2, whole_words: false, begins: false, composes: false };

const RULES: [Rule; 13] = [
    Rule { names: &["gpt-2", "mellum", "trillion", "a.x-4.0"], ..PLAIN },
    // Granite's models of code have the second name.
    Rule { names: &["smollm", "refact", "starcoder", "minerva-7b"], words: Words::Digits, ..PLAIN },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"],
        words: Words::Matches(&[LLAMA_3]),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    // Phi-4's files have the name of another model that cuts words so.
    Rule { names: &["dbrx", "smaug-bpe"], words: Words::Matches(&[LLAMA_3]), ..PLAIN },
    // Phi-4-mini's.
    Rule { names: &["gpt-4o", "llama4"], words: Words::Matches(&[GPT_4O]), ..PLAIN },
    Rule {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: Words::Matches(&[QWEN_2]),
        composes: true,
        ..PLAIN
    },
    Rule {
        names: &["tekken"],
        words: Words::Matches(&[TEKKEN]),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Rule { names: &["megrez"], words: Words::Matches(&[QWEN_2]), ..PLAIN },
    Rule { names: &["seed-coder"], words: Words::Matches(&[SEED_CODER]), ..PLAIN },
    Rule { names: &["deepseek-llm"], words: Words::Matches(DEEPSEEK_LLM), ..PLAIN },
    Rule { names: &["deepseek-coder"], words: Words::Matches(DEEPSEEK_CODER), ..PLAIN },
    Rule { names: &["deepseek-v3"], words: Words::Matches(DEEPSEEK_3), ..PLAIN },
    Rule { names: &["default"], words: Words::Matches(DEFAULT), ..PLAIN },
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
        let split = |pattern: &&str| {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(Into::into)
        };
        let steps = match self.words {
            Words::Gpt2 => return Ok(bytes(true)),
            Words::Digits => vec![Digits::new(true).into(), bytes(true)],
            Words::Matches(patterns) => {
                patterns.iter().map(split).chain([Ok(bytes(false))]).collect::<Result<_>>()?
            }
        };
        Ok(Sequence::new(steps).into())
    }
}
