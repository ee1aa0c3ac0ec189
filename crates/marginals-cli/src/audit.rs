//! `marginals audit`: what each head of a trained transformer believes.

mod catalogue;
mod choice;
mod distance_prior;
mod document;
mod effects;
mod head;
mod label;
mod measure;
mod numbers;
mod packed;
mod page_data;
mod relations;
mod report;
mod rule;
mod sparse;
mod subject;
mod svg;
mod terminal;
mod texts;

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use marginals_burn::{ModelError, Pretrained, Tokens, Transformer, Visible};

use self::choice::Showcase;
use self::document::{Document, ModelSection, Reading, TextSection, TokenSection};
use self::effects::Changes;
use self::measure::{Collector, HeadMeasures};
use self::relations::Relations;
use self::report::ReportError;
use self::sparse::SparsePosteriors;
use self::subject::{Described, Subject};
use self::terminal::Style;
use self::texts::{NamedText, TextsError};
use crate::named_model::{NamedModel, NoModel};
use crate::output::{self, Input, PrintError, WriteError};
use crate::{interruption, message, progress};

/// Read when no text is given: the opening of Jane Austen's novel of 1813.
const BUNDLED_TEXT: &str = include_str!("../data/pride-and-prejudice.txt");
const BUNDLED_SOURCE: &str = "the opening of Pride and Prejudice";

/// Text that the model which comes with the program reads: the beginning of a play it was not trained on.
const DEFAULT_TEXT: &str = include_str!("../data/default-model/macbeth.txt");
const DEFAULT_SOURCE: &str = "the opening of Macbeth";

/// Show what each attention head of a trained transformer believes, how sure it is, and what would
/// be lost by making it hard
///
/// Runs the model over the text, asks every head's posterior in one pass per layer, and writes
/// audit.json and a self-contained report.html next to a table on the terminal.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder with config.json, model.safetensors and tokenizer.json (BERT, RoBERTa, XLM-RoBERTa,
    /// CamemBERT, DistilBERT, ModernBERT, GPT-2, Llama, Mistral, Qwen 2 and 3, Phi-3, Gemma 2 and 3); a GGUF
    /// file (GPT-2, Llama and Mistral, Qwen 2 and 3, Phi-3, Gemma 2 and 3); the DIR of a run of `marginals
    /// train`, finished or stopped; or `shakespeare`, the small model of Shakespeare's plays that comes with
    /// this program, which is read without it too (a folder of that name goes before it). The weights may be
    /// in several safetensors files, and in place of tokenizer.json SentencePiece's tokenizer.model does, or a
    /// BERT's vocab.txt
    model: Option<PathBuf>,
    /// UTF-8 texts, folders of them, or - for standard input; without any, a page of Pride and Prejudice,
    /// or for the model that comes with this program a page of Macbeth. Of several, heads are described
    /// by the means over the texts, with how far the texts agree
    #[arg(value_name = "TEXT")]
    texts: Vec<PathBuf>,
    /// Read only the first N tokens of each text
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
    /// Print every measure of every head
    #[arg(long, conflicts_with = "format")]
    table: bool,
    /// The token of the first text, counted from 0, whose posterior the report shows first
    #[arg(long, value_name = "TOKEN_INDEX")]
    query: Option<usize>,
    /// Another model that reads the same text: the report shows both side by side, and compared.json
    /// holds the second
    #[arg(long, value_name = "MODEL")]
    compare: Option<PathBuf>,
    /// Find what each head is worth too: how much the loss of a language model rises, in nats per token, with
    /// the head made hard, sampled, silenced, without its sink, or within a window. Takes a forward pass for
    /// each; the rest of the audit is written before
    #[arg(long)]
    effects: bool,
    /// Keys that each query draws where a head is sampled
    #[arg(long, value_name = "S", default_value = "8", requires = "effects")]
    draws: NonZeroUsize,
    /// Positions that a head is left with in a window, the query's own included
    #[arg(long, value_name = "W", default_value = "32", requires = "effects")]
    window: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The kinds of heads, and the clearest of each
    Text,
    /// The content of audit.json
    Json,
}

/// Why an audit did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    NoModel(#[from] NoModel),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error(transparent)]
    Texts(#[from] TextsError),
    #[error("there is nothing to audit: {text} is empty. Give a text with something in it")]
    EmptyText { text: String },
    #[error("{source} (the text is `{text}`, one of several)")]
    OfText { text: String, source: ModelError },
    #[error("`--query {query}` names no token: the text has {tokens} tokens, counted from 0")]
    Query { query: usize, tokens: usize },
    #[error(
        "`--effects` asks for the loss of a language model, and `{model}` ({family}) is none, or was saved \
         without its head; leave it out"
    )]
    NoLoss { model: String, family: &'static str },
    #[error("`--effects` asks for texts of two tokens at least, and each has one; leave it out")]
    NothingPredicted,
    #[error("cannot start {threads} threads: {reason}; ask for fewer with `--threads`")]
    Threads { threads: usize, reason: String },
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("the audit could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), AuditError> {
    interruption::ends_the_command("");
    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| AuditError::Threads { threads, reason: error.to_string() })?;
    pool.install(|| audit(arguments))
}

fn audit(arguments: &Arguments) -> Result<(), AuditError> {
    let paths: Vec<&Path> = arguments.texts.iter().map(PathBuf::as_path).collect();
    let named = NamedModel::of(arguments.model.as_deref(), &paths)?;
    let compared = match &arguments.compare {
        Some(path) => Some(NamedModel::of(Some(path), &[])?),
        None => None,
    };
    refuse_inputs(arguments, [Some(&named), compared.as_ref()].into_iter().flatten())?;
    let bundled = match named {
        NamedModel::Bundled => (DEFAULT_SOURCE, DEFAULT_TEXT),
        NamedModel::At { .. } => (BUNDLED_SOURCE, BUNDLED_TEXT),
    };
    let texts = match &arguments.texts[..] {
        [] => vec![NamedText { source: bundled.0.to_owned(), text: bundled.1.to_owned() }],
        paths => texts::read(paths)?,
    };
    if let Some(text) = texts.iter().find(|text| text.text.is_empty()) {
        return Err(AuditError::EmptyText { text: text.source.clone() });
    }
    output::prepare_folder(&arguments.out)?;
    let mut audits = Vec::new();
    // One model goes before the next comes: memory holds one.
    for named in [Some(named), compared].into_iter().flatten() {
        let model = named.open()?;
        if arguments.effects && !model.transformer.is_language_model() {
            let (model, family) = (model.name.clone(), model.transformer.family());
            return Err(AuditError::NoLoss { model, family });
        }
        audits.push(Audit::of(&model, &texts, arguments)?);
        if arguments.effects {
            // That takes long: what is there already stays if it is stopped.
            write(&audits, arguments)?;
            let audit = audits.last_mut().expect("one was just added");
            audit.add_effects(&model, arguments.changes())?;
        }
    }
    write(&audits, arguments)?;
    print(&audits, arguments)
}

impl Arguments {
    fn changes(&self) -> Changes {
        Changes { draws: self.draws.get(), window: self.window.get() }
    }
}

/// Files that an audit leaves behind: the documents of a first model and of one that it is compared with,
/// and the report.
const OUTPUTS: [&str; 3] = ["audit.json", "compared.json", "report.html"];

/// Refuses to write over what is read.
fn refuse_inputs<'a>(
    arguments: &Arguments,
    models: impl Iterator<Item = &'a NamedModel>,
) -> Result<(), AuditError> {
    const KIND: &str = "the text";
    let outputs = OUTPUTS.map(|name| arguments.out.join(name));
    let mut inputs: Vec<Input> = models.flat_map(|model| model.inputs(&outputs)).collect();
    for path in &arguments.texts {
        match path.is_dir() {
            true => inputs.extend(Input::all_in(KIND, path, &[])),
            false => inputs.push(Input::new(KIND, path)),
        }
    }
    output::refuse_inputs(&outputs, &inputs)?;
    output::refuse_folder_of_run(&arguments.out)?;
    Ok(output::refuse_report_of_others(&arguments.out, OUTPUTS[0])?)
}

/// Audit of one model.
#[derive(Debug)]
struct Audit {
    document: Document,
    /// Means over the texts, by layer and head.
    layers: Vec<Vec<HeadMeasures>>,
    readings: Vec<Reading>,
    /// Keys of every query, and what is shown of them first, of each text.
    posteriors: Vec<(SparsePosteriors, Showcase)>,
    /// Tokens of each text.
    tokens: Vec<Tokens>,
}

impl Audit {
    fn of(
        model: &Pretrained,
        texts: &[NamedText],
        arguments: &Arguments,
    ) -> Result<Self, AuditError> {
        let several = texts.len() > 1;
        let of_text = |text: &NamedText, source| match several {
            true => AuditError::OfText { text: text.source.clone(), source },
            false => AuditError::Model(source),
        };
        let limit = arguments.tokens.map(NonZeroUsize::get);
        let encoded = texts.iter().map(|text| {
            model.tokenizer.encode(&text.text, limit).map_err(|error| of_text(text, error))
        });
        let tokens: Vec<Tokens> = encoded.collect::<Result<_, _>>()?;
        // Those that the tokenizer adds are there without a text too.
        let is_empty = |tokens: &Tokens| tokens.spans.iter().all(|span| span.is_empty());
        if let Some(empty) = tokens.iter().position(is_empty) {
            return Err(AuditError::EmptyText { text: texts[empty].source.clone() });
        }
        if let Some(query) = arguments.query.filter(|query| *query >= tokens[0].len()) {
            return Err(AuditError::Query { query, tokens: tokens[0].len() });
        }

        let transformer = &model.transformer;
        let heads = transformer.layers() * transformer.heads();
        // The document holds posteriors of the first text.
        let chosen = choice::queries(&tokens[0], arguments.query, choice::affordable(heads));
        let bar = progress::start(transformer.layers() * texts.len(), "layer");
        let (mut readings, mut queries) = (Vec::new(), Vec::new());
        let mut posteriors = Vec::new();
        for (index, (text, tokens)) in texts.iter().zip(&tokens).enumerate() {
            let relations = relations_of(transformer, &text.text, tokens);
            let before = index * transformer.layers();
            let (chosen, asked) = match index {
                0 => (&chosen[..], arguments.query),
                _ => (&[][..], None),
            };
            let sparse = SparsePosteriors::new(heads, tokens.len(), choice::TOP_KEYS);
            let progress = |done| bar.set_position((before + done) as u64);
            let mut collector =
                Collector::new(&relations, chosen, choice::TOP_KEYS, sparse, progress);
            model.run(tokens, &mut collector).map_err(|error| of_text(text, error))?;
            let Collector { layers, queries: of_chosen, sparse, .. } = collector;
            queries.extend(of_chosen);
            let showcase = choice::showcase(tokens, &layers, &sparse, asked);
            posteriors.push((sparse, showcase));
            let text = text_section(text.source.clone(), &text.text, tokens);
            readings.push(Reading { text, layers });
        }
        bar.finish_and_clear();

        let layers = document::means(&readings);
        let text = readings[0].text.clone();
        let mut document = Document::new(model_section(model), text, &layers, &queries);
        if several {
            document.add_texts(&readings);
        }
        Ok(Self { document, layers, readings, posteriors, tokens })
    }

    fn add_effects(&mut self, model: &Pretrained, changes: Changes) -> Result<(), AuditError> {
        let measured = effects::measure(model, &self.tokens, changes)?;
        let measured = measured.ok_or(AuditError::NothingPredicted)?;
        self.document.add_effects(changes, measured, &self.layers);
        Ok(())
    }

    /// Each text as the report shows it.
    fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        let texts = self.readings.iter().zip(&self.posteriors).enumerate();
        texts.map(|(index, (reading, (posteriors, first)))| Subject {
            model: &self.document.model,
            reading,
            posteriors,
            first: *first,
            predictions: match &self.document.effects {
                Some(effects) if index == 0 => &effects.predictions,
                _ => &[],
            },
        })
    }
}

fn write(audits: &[Audit], arguments: &Arguments) -> Result<(), AuditError> {
    let documents: Vec<Vec<u8>> =
        audits.iter().map(|audit| serde_json::to_vec(&audit.document)).collect::<Result<_, _>>()?;
    let described: Vec<Described<'_>> = audits
        .iter()
        .map(|audit| Described {
            document: &audit.document,
            layers: &audit.layers,
            subjects: audit.subjects().collect(),
        })
        .collect();
    let report = report::render(&described)?;
    let [first, second, report_path] = OUTPUTS.map(|name| arguments.out.join(name));
    let paths = [first, second];
    for (path, json) in paths.iter().zip(&documents) {
        output::write_whole(path, json)?;
    }
    output::write_whole(&report_path, report.as_bytes())?;
    Ok(())
}

fn print(audits: &[Audit], arguments: &Arguments) -> Result<(), AuditError> {
    match arguments.format {
        Format::Json => {
            // One line each.
            let line = |audit: &Audit| {
                let json = serde_json::to_string(&audit.document)?;
                Ok(format!("{}\n", message::json(&json)))
            };
            let lines = audits.iter().map(line).collect::<Result<String, serde_json::Error>>()?;
            output::print(&lines)
        }
        Format::Text => {
            let style = match io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
                true => Style::Coloured,
                false => Style::Plain,
            };
            let tables = audits.iter().map(|Audit { document, layers, .. }| {
                let all = arguments.table;
                let heads = match all {
                    true => terminal::table(document, layers, style),
                    false => terminal::summary(document, layers, style),
                };
                heads + &terminal::effects(document, layers, (style, all))
            });
            let tables = tables.collect::<Vec<_>>().join("\n");
            let [first, second, report] = OUTPUTS.map(|name| arguments.out.join(name));
            let shown =
                |path: &Path| message::on_one_line(&path.display().to_string()).into_owned();
            let data = [first, second];
            let data = data.iter().take(audits.len()).map(|path| shown(path));
            let data = data.collect::<Vec<_>>().join(", ");
            output::print(&format!("{tables}\nReport: {}\nData:   {data}\n", shown(&report)))
        }
    }?;
    Ok(())
}

/// Relations of the tokens of one text, one for each kind of layer.
fn relations_of(transformer: &Transformer, text: &str, tokens: &Tokens) -> Vec<Relations> {
    let mut kinds: Vec<Visible> = Vec::new();
    for visible in (0..transformer.layers()).map(|layer| transformer.visible(layer)) {
        if !kinds.contains(&visible) {
            kinds.push(visible);
        }
    }
    kinds.into_iter().map(|visible| Relations::new(text, tokens, visible)).collect()
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
        visible: match (0..transformer.layers())
            .any(|layer| transformer.visible(layer).sees_ahead())
        {
            true => "all",
            false => "before",
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
    use marginals_burn::train::bits_per_byte;

    use super::*;

    fn read(text: &str, tokens: usize) -> TextSection {
        let tokenizer = NamedModel::Bundled.open().expect("it comes with the program").tokenizer;
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
        let model = NamedModel::Bundled.open();
        let Transformer::ByteLm(lm) = model.expect("it comes with the program").transformer else {
            panic!("a language model over bytes");
        };
        let bits = bits_per_byte(lm.lm(), DEFAULT_TEXT.as_bytes(), 256, None).expect("long enough");
        assert!(bits < 2.3, "{bits} bits per byte");
    }
}
