//! `marginals audit`: what each head of a trained transformer believes.

mod catalogue;
mod choice;
mod document;
mod label;
mod measure;
mod packed;
mod page_data;
mod report;
mod sparse;
mod svg;
mod terminal;

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use marginals_burn::{ModelError, Pretrained, Tokens, Visible};

use self::choice::Showcase;
use self::document::{Document, ModelSection, TextSection, TokenSection};
use self::measure::{Collector, HeadMeasures};
use self::report::Subject;
use self::sparse::SparsePosteriors;
use self::terminal::Style;
use crate::message;
use crate::output::{self, PrintError, WriteError};

/// Read when no text is given: the opening of Jane Austen's novel of 1813.
const BUNDLED_TEXT: &str = include_str!("../data/pride-and-prejudice.txt");
const BUNDLED_SOURCE: &str = "the opening of Pride and Prejudice";

/// Audited when no model is given: trained by `experiments/default-model`.
const DEFAULT_CONFIG: &str = include_str!("../data/default-model/config.json");
const DEFAULT_WEIGHTS: &[u8] = include_bytes!("../data/default-model/model.safetensors");
const DEFAULT_NAME: &str = "shakespeare";
/// Text it then reads: the beginning of a play it was not trained on.
const DEFAULT_TEXT: &str = include_str!("../data/default-model/macbeth.txt");
const DEFAULT_SOURCE: &str = "the opening of Macbeth";

/// Show what each attention head of a trained transformer believes, how sure it is, and what would
/// be lost by making it hard
///
/// Runs the model over the text, asks every head's posterior in one pass per layer, and writes
/// audit.json and a self-contained report.html next to a table on the terminal.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder with config.json, model.safetensors and tokenizer.json (BERT or Llama), a folder that
    /// `marginals train` left, or a GGUF file (Llama); without it, the small model of Shakespeare's
    /// plays that comes with this program. The weights may be in several safetensors files, and a BERT's
    /// vocab.txt does for its tokenizer.json
    model: Option<PathBuf>,
    /// A UTF-8 text, or - for standard input; without it, a page of Pride and Prejudice, or for the
    /// model that comes with this program a page of Macbeth
    text: Option<PathBuf>,
    /// Read only the first N tokens
    #[arg(long, value_name = "N")]
    tokens: Option<NonZeroUsize>,
    /// Where audit.json and report.html go
    #[arg(long, value_name = "DIR", default_value = "audit")]
    out: PathBuf,
    /// Threads to use; without it, as many as there are cores
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The token, counted from 0, whose posterior the report shows first
    #[arg(long, value_name = "TOKEN_INDEX")]
    query: Option<usize>,
    /// Another model that reads the same text: the report shows both side by side, and compared.json
    /// holds the second
    #[arg(long, value_name = "MODEL")]
    compare: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// The content of audit.json
    Json,
}

/// Why an audit did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "there is nothing at `{}`; name a model folder or a GGUF file, or bring one with \
         `cargo xtask fetch minilm`",
        path.display()
    )]
    NoModel { path: PathBuf },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error("cannot read the text `{}`: {source}", path.display())]
    Text { path: PathBuf, source: io::Error },
    #[error("cannot read the text `{}`: it is not UTF-8. Save it in that encoding", path.display())]
    Encoding { path: PathBuf },
    #[error("`--query {query}` names no token: the text has {tokens} tokens, counted from 0")]
    Query { query: usize, tokens: usize },
    #[error("cannot start {threads} threads: {reason}; ask for fewer with `--threads`")]
    Threads { threads: usize, reason: String },
    #[error("the posteriors could not be packed: {0}")]
    Packing(io::Error),
    #[error("the report could not be put together: {0}")]
    Report(#[from] minijinja::Error),
    #[error("the audit could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), AuditError> {
    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| AuditError::Threads { threads, reason: error.to_string() })?;
    pool.install(|| audit(arguments))
}

fn audit(arguments: &Arguments) -> Result<(), AuditError> {
    for path in arguments.model.iter().chain(&arguments.compare) {
        if !path.exists() {
            return Err(AuditError::NoModel { path: path.clone() });
        }
    }
    let (source, text) = match &arguments.text {
        Some(path) => read_text(path)?,
        None if arguments.model.is_none() => (DEFAULT_SOURCE.to_owned(), DEFAULT_TEXT.to_owned()),
        None => (BUNDLED_SOURCE.to_owned(), BUNDLED_TEXT.to_owned()),
    };
    output::prepare_folder(&arguments.out)?;
    let model = match &arguments.model {
        Some(path) => Pretrained::open(path)?,
        None => Pretrained::byte_lm(DEFAULT_NAME, DEFAULT_CONFIG, DEFAULT_WEIGHTS.to_vec())?,
    };
    let mut audits = vec![audit_of(&model, &source, &text, arguments)?];
    if let Some(path) = &arguments.compare {
        let second = Pretrained::open(path)?;
        audits.push(audit_of(&second, &source, &text, arguments)?);
    }
    write(&audits, arguments)
}

/// A model's audit, in every form that is written.
#[derive(Debug)]
struct Audit {
    document: Document,
    layers: Vec<Vec<HeadMeasures>>,
    posteriors: SparsePosteriors,
    showcase: Showcase,
}

fn audit_of(
    model: &Pretrained,
    source: &str,
    text: &str,
    arguments: &Arguments,
) -> Result<Audit, AuditError> {
    let tokens = model.tokenizer.encode(text, arguments.tokens.map(NonZeroUsize::get))?;
    if let Some(query) = arguments.query.filter(|query| *query >= tokens.len()) {
        return Err(AuditError::Query { query, tokens: tokens.len() });
    }

    let transformer = &model.transformer;
    let heads = transformer.layers() * transformer.heads();
    let chosen = choice::queries(&tokens, arguments.query, choice::affordable(heads));
    let sparse = SparsePosteriors::new(heads, tokens.len(), choice::TOP_KEYS);
    let bar = progress_bar(transformer.layers());
    let mut collector =
        Collector::new(&chosen, choice::TOP_KEYS, sparse, |done| bar.set_position(done as u64));
    model.run(&tokens, &mut collector)?;
    bar.finish_and_clear();

    let Collector { layers, queries, sparse, .. } = collector;
    let text = text_section(source.to_owned(), text, &tokens);
    let document = Document::new(model_section(model), text, &layers, &queries);
    let showcase = choice::showcase(&tokens, &layers, &sparse, arguments.query);
    Ok(Audit { document, layers, posteriors: sparse, showcase })
}

/// Names of the documents of a first model, and of one that it is compared with.
const DOCUMENTS: [&str; 2] = ["audit.json", "compared.json"];

fn write(audits: &[Audit], arguments: &Arguments) -> Result<(), AuditError> {
    let documents: Vec<Vec<u8>> =
        audits.iter().map(|audit| serde_json::to_vec(&audit.document)).collect::<Result<_, _>>()?;
    let subjects: Vec<Subject<'_>> = audits
        .iter()
        .map(|audit| Subject {
            document: &audit.document,
            layers: &audit.layers,
            posteriors: &audit.posteriors,
            first: audit.showcase,
        })
        .collect();
    let report = report::render(&subjects)?;
    let paths = DOCUMENTS.map(|name| arguments.out.join(name));
    for (path, json) in paths.iter().zip(&documents) {
        output::write_whole(path, json)?;
    }
    let report_path = arguments.out.join("report.html");
    output::write_whole(&report_path, report.as_bytes())?;

    match arguments.format {
        Format::Json => {
            // One line each.
            let lines = documents
                .iter()
                .map(|json| format!("{}\n", message::json(&String::from_utf8_lossy(json))));
            output::print(&lines.collect::<String>())
        }
        Format::Text => {
            let style = match io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
                true => Style::Coloured,
                false => Style::Plain,
            };
            let tables: Vec<String> = audits
                .iter()
                .map(|audit| terminal::table(&audit.document, &audit.layers, style))
                .collect();
            let shown =
                |path: &Path| message::on_one_line(&path.display().to_string()).into_owned();
            let data: Vec<String> =
                paths[..documents.len()].iter().map(|path| shown(path)).collect();
            output::print(&format!(
                "{}\nReport: {}\nData:   {}\n",
                tables.join("\n"),
                shown(&report_path),
                data.join(", ")
            ))
        }
    }?;
    Ok(())
}

fn read_text(path: &Path) -> Result<(String, String), AuditError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => AuditError::Encoding { path: path.to_path_buf() },
        _ => AuditError::Text { path: path.to_path_buf(), source },
    };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, text))
}

/// Draws to standard error, and only where that is a terminal.
fn progress_bar(layers: usize) -> ProgressBar {
    let bar = ProgressBar::new(layers as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} layer {pos}/{len}  {elapsed}") {
        bar.set_style(style);
    }
    bar.tick();
    bar
}

fn model_section(model: &Pretrained) -> ModelSection {
    let transformer = &model.transformer;
    ModelSection {
        name: model.name.clone(),
        family: transformer.family(),
        layers: transformer.layers(),
        heads: transformer.heads(),
        key_heads: transformer.key_heads(),
        context: transformer.context(),
        visible: match transformer.visible() {
            Visible::All => "all",
            Visible::Before => "before",
        },
    }
}

fn text_section(source: String, text: &str, tokens: &Tokens) -> TextSection {
    let token = |index: usize| TokenSection {
        id: tokens.ids[index],
        piece: tokens.pieces[index].clone(),
        start: tokens.spans[index].start,
        end: tokens.spans[index].end,
    };
    // What was not read is no part of the document; of a character, tokens may be a part.
    let end = tokens.spans.iter().map(|span| span.end).max().unwrap_or(0);
    TextSection {
        source,
        text: text[..text.ceil_char_boundary(end)].to_owned(),
        token_count: tokens.len(),
        token_count_of_whole_text: tokens.of,
        tokens: (0..tokens.len()).map(token).collect(),
    }
}

#[cfg(test)]
mod tests {
    use marginals_burn::Transformer;
    use marginals_burn::train::bits_per_byte;

    use super::*;

    fn read(text: &str, tokens: usize) -> TextSection {
        let model = Pretrained::byte_lm(DEFAULT_NAME, DEFAULT_CONFIG, DEFAULT_WEIGHTS.to_vec());
        let tokenizer = model.expect("it comes with the program").tokenizer;
        let tokens = tokenizer.encode(text, Some(tokens)).expect("bytes are tokens");
        text_section("text".to_owned(), text, &tokens)
    }

    #[test]
    fn the_text_ends_with_the_last_character_that_was_begun() {
        let ends = [1, 2, 3, 4, 5].map(|tokens| read("ééZZZ", tokens).text);
        assert_eq!(ends, ["é", "é", "éé", "éé", "ééZ"]);
    }

    #[test]
    fn a_terminal_is_shown_no_controls() {
        let text = read("\x1b[3\0m", 5);
        let shown: Vec<String> = (0..5).map(|index| text.written(index)).collect();
        assert_eq!(shown, ["\"\\u{1b}\"", "[", "3", "\"\\0\"", "m"]);
    }

    /// A model of the three bytes before needs 2.48 bits for each byte of the plays it has not seen.
    #[test]
    fn the_default_model_knows_what_comes_next() {
        let model = Pretrained::byte_lm(DEFAULT_NAME, DEFAULT_CONFIG, DEFAULT_WEIGHTS.to_vec());
        let Transformer::ByteLm(lm) = model.expect("it comes with the program").transformer else {
            panic!("a language model over bytes");
        };
        let bits = bits_per_byte(lm.lm(), DEFAULT_TEXT.as_bytes(), 256, None).expect("long enough");
        assert!(bits < 2.3, "{bits} bits per byte");
    }
}
