//! The capability table, asked of the engine cell by cell.
//!
//! Nothing here says what can be answered: every cell is a call to what `marginals infer` calls, on
//! a small instance, and shows whether an answer or a typed error came back.

mod instance;

use std::fmt::Write;

use marginals::Error;
use marginals::ask::{Answers, Settings};
use marginals::question::{Named, QUESTIONS};
use marginals::spec::{
    self, Description, DifferentiationSpec, EngineSpec, ExpandingInference, MechanismSpec,
    ModelFile, ModelSpec, UpdateSpec,
};
use marginals::zoo::MECHANISMS;

use crate::infer::{self, AnswerError};
use instance::Instance;

const INTRODUCTION: &str = "\
# Capabilities

Written by `marginals explain --table`, which asks the engine for every cell on a small instance and
notes whether an answer or an error came back; a test holds this file to it.

∂: answered, and differentiated with respect to everything it depends on. ✓: answered.
–: refused, with the error below.
";

/// All tables, in Markdown.
pub fn table() -> String {
    let mut text = INTRODUCTION.to_owned();
    questions(&mut text);
    parts(&mut text);
    mechanisms(&mut text);
    text
}

/// Outcome of asking.
enum Cell {
    Differentiated,
    Answered,
    Refused(AnswerError),
}

/// Errors told once, below the table that refers to them.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn write(&mut self, cell: Cell) -> String {
        match cell {
            Cell::Differentiated => "∂".to_owned(),
            Cell::Answered => "✓".to_owned(),
            Cell::Refused(error) => {
                // What is said of one question holds of all that are refused for the same reason.
                let told = match error {
                    AnswerError::Model(Error::NotAnswerable { why, instead, .. }) => {
                        format!("{why}. {instead}")
                    }
                    other => other.to_string(),
                };
                let told = sentence(&told);
                let index = self.0.iter().position(|note| *note == told).unwrap_or_else(|| {
                    self.0.push(told);
                    self.0.len() - 1
                });
                format!("– ({})", index + 1)
            }
        }
    }

    fn list(&self, text: &mut String) {
        for (index, note) in self.0.iter().enumerate() {
            let separator = if index == 0 { "\n" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{separator}{}. {note}", index + 1);
        }
    }
}

/// The text with its first letter a capital.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn row(text: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn header(text: &mut String, cells: &[&str]) {
    row(text, cells.iter().map(|&cell| cell.to_owned()));
    let _ = writeln!(text, "|{}", "---|".repeat(cells.len()));
}

fn of_kind(kind: &'static str) -> impl Iterator<Item = &'static Description> {
    spec::parts().filter(move |part| part.kind == kind)
}

/// A model of one part and the plainest others.
fn model_of(part: &Description) -> Result<ModelSpec, Error> {
    let structure = match part.kind {
        "structure" => part.example,
        _ => "\"each-query-picks-one\"",
    };
    let prior = match part.kind {
        "prior" => part.example.to_owned(),
        "distance" => format!("{{ geometric = {{ rho = 0.1, distance = {} }} }}", part.example),
        _ => "\"uniform\"".to_owned(),
    };
    let potential = if part.kind == "potential" { part.example } else { "\"dot\"" };
    ModelSpec::from_toml(&format!(
        "structure = {structure}\nprior = [{prior}]\npotential = {potential}\n"
    ))
}

fn ask(
    model: &ModelFile,
    questions: &[Named],
    instance: &Instance,
) -> Result<Answers<f64>, AnswerError> {
    infer::answer(model, questions, instance.tensors(), Settings::default())
}

/// Asks one question, and for the gradients of its answer.
fn cell(model: &ModelFile, question: Named) -> Cell {
    let mut instance = Instance::default();
    let answers = match ask(model, &[question], &instance) {
        Ok(answers) => answers,
        Err(error) => return Cell::Refused(error),
    };
    let name = question.entry.name;
    let Some(answer) = answers.get(name) else { return Cell::Answered };
    instance.upstream(name, answer.shape());
    match ask(model, &[question], &instance) {
        Ok(gradients) if gradients.get("grad.q").is_some() => Cell::Differentiated,
        _ => Cell::Answered,
    }
}

/// The question whose answer attention outputs.
fn mean() -> Result<Named, Error> {
    Named::parse("mean")
}

fn questions(text: &mut String) {
    text.push_str("\n## Questions × structures\n\n");
    let structures: Vec<&Description> = of_kind("structure").collect();
    let names = structures.iter().map(|part| part.name);
    header(text, &std::iter::once("question").chain(names).collect::<Vec<_>>());
    let mut notes = Notes::default();
    let inference = |part: &&Description| {
        let model = model_of(part);
        model.and_then(|model| instance::inference(&model)).unwrap_or_else(|e| e.to_string())
    };
    row(
        text,
        std::iter::once("*exact inference*".to_owned()).chain(structures.iter().map(inference)),
    );
    let told = |part: &Description, question| match model_of(part) {
        Ok(model) => cell(&ModelFile::Posterior(model), question),
        Err(error) => Cell::Refused(error.into()),
    };
    for entry in QUESTIONS {
        let question = Named { entry, argument: entry.argument.map(|_| 2) };
        let cells = structures.iter().map(|part| notes.write(told(part, question)));
        row(text, std::iter::once(entry.name.to_owned()).chain(cells));
    }
    for (name, compare) in COMPARISONS {
        let cells = structures.iter().map(|part| {
            notes.write(match model_of(part).and_then(|model| compare(&model)) {
                Ok(()) => Cell::Answered,
                Err(error) => Cell::Refused(error.into()),
            })
        });
        row(text, std::iter::once((*name).to_owned()).chain(cells));
    }
    notes.list(text);
}

/// A question about two posteriors, which the library answers and a model file cannot name.
type Comparison = fn(&ModelSpec) -> Result<(), Error>;

const COMPARISONS: &[(&str, Comparison)] = &[
    ("cross-entropy to another posterior", |model| {
        instance::with_posterior(model, |posterior| posterior.cross_entropy(posterior).map(drop))
    }),
    ("KL to another posterior", |model| {
        instance::with_posterior(model, |posterior| posterior.kl_to(posterior).map(drop))
    }),
];

fn parts(text: &mut String) {
    text.push_str("\n## Parts and what they learn\n\n");
    text.push_str("Gradients beside those of queries, keys and values, under their names in `infer`'s output.\n\n");
    header(text, &["part", "", "mean", "learns"]);
    let mut notes = Notes::default();
    // The plainest model's own, which would stand in every row.
    let plain = "grad.dot.scale";
    for part in spec::parts() {
        let mut instance = Instance::default();
        instance.upstream("mean", &instance.mean_shape());
        let asked = mean().and_then(|mean| Ok((mean, model_of(part)?))).map_err(AnswerError::from);
        let answers =
            asked.and_then(|(mean, model)| ask(&ModelFile::Posterior(model), &[mean], &instance));
        let (mean, learned) = match answers {
            Ok(answers) => {
                let nodes = ["mean", "grad.q", "grad.k", "grad.v", "grad.scores"];
                let learned: Vec<String> = answers
                    .iter()
                    .map(|(name, _)| name)
                    .filter(|name| !nodes.contains(name))
                    .filter(|name| part.kind == "potential" || *name != plain)
                    .map(|name| format!("`{}`", name.trim_start_matches("grad.")))
                    .collect();
                (Cell::Differentiated, learned.join(", "))
            }
            Err(error) => (Cell::Refused(error), String::new()),
        };
        row(text, [part.name.to_owned(), part.kind.to_owned(), notes.write(mean), learned]);
    }
    notes.list(text);
}

/// A change to a mechanism's settings; `false` where it has no such setting.
type Change = fn(&mut MechanismSpec) -> bool;

fn engine(mechanism: &mut MechanismSpec, change: impl Fn(&mut EngineSpec)) -> bool {
    mechanism.engine_mut().map(change).is_some()
}

fn update(mechanism: &mut MechanismSpec, update: UpdateSpec) -> bool {
    mechanism.update_mut().map(|own| *own = update).is_some()
}

fn differentiation(mechanism: &mut MechanismSpec, how: DifferentiationSpec) -> bool {
    engine(mechanism, |engine| engine.differentiation = how)
}

const CHANGES: &[(&str, Change)] = &[
    ("exact update", |m| update(m, UpdateSpec::Exact)),
    ("gradient steps", |m| update(m, UpdateSpec::Descent { step: 0.1 })),
    ("with backtracking", |m| update(m, UpdateSpec::Backtracking { step: 0.1 })),
    ("Anderson", |m| engine(m, |engine| engine.memory = 3)),
    ("implicit", |m| differentiation(m, DifferentiationSpec::Implicit)),
    ("unrolled", |m| differentiation(m, DifferentiationSpec::Unrolled)),
    ("one-step", |m| differentiation(m, DifferentiationSpec::OneStep)),
];

/// Asks a model file for its main answer, and for the gradients of that.
fn main_cell(model: &ModelFile) -> Cell {
    let ModelFile::Mechanism { mechanism } = model else {
        return match mean() {
            Ok(mean) => cell(model, mean),
            Err(error) => Cell::Refused(error.into()),
        };
    };
    let mut instance = Instance::of(mechanism);
    let answers = match ask(model, &[], &instance) {
        Ok(answers) => answers,
        Err(error) => return Cell::Refused(error),
    };
    let main = MAIN_ANSWERS.iter().find_map(|name| Some((*name, answers.get(name)?)));
    let Some((name, answer)) = main else { return Cell::Answered };
    instance.upstream(name, answer.shape());
    match ask(model, &[], &instance) {
        Ok(gradients) if gradients.iter().any(|(name, _)| name.starts_with("grad.")) => {
            Cell::Differentiated
        }
        Ok(_) => Cell::Answered,
        Err(error) => Cell::Refused(error),
    }
}

/// Questions that mechanisms are asked: the first of these that they answer.
const MAIN_ANSWERS: &[&str] = &["state", "means", "slots", "latents", "mean"];

fn mechanisms(text: &mut String) {
    text.push_str("\n## Mechanisms × inference\n\n");
    text.push_str(
        "The model file that `marginals explain NAME` prints, asked for the mean or where it comes to \
         rest, and the same with another update, \
         acceleration or differentiation of the fixed-point engine, where it takes one.\n\n",
    );
    let changes = CHANGES.iter().map(|(name, _)| *name);
    header(text, &["mechanism", "as written"].into_iter().chain(changes).collect::<Vec<_>>());
    let mut notes = Notes::default();
    for mechanism in MECHANISMS {
        let file = match ModelFile::from_toml(mechanism.model) {
            Ok(file) => file,
            Err(error) => {
                row(text, [mechanism.name.to_owned(), notes.write(Cell::Refused(error.into()))]);
                continue;
            }
        };
        for (suffix, file) in inferences(file) {
            let mut cells =
                vec![format!("{}{suffix}", mechanism.name), notes.write(main_cell(&file))];
            for (_, change) in CHANGES {
                let changed = match file.clone() {
                    ModelFile::Mechanism { mut mechanism } => {
                        change(&mut mechanism).then_some(ModelFile::Mechanism { mechanism })
                    }
                    ModelFile::Posterior(_) => None,
                };
                cells.push(changed.map_or(String::new(), |file| notes.write(main_cell(&file))));
            }
            row(text, cells);
        }
    }
    notes.list(text);
}

/// A model file, and the same under its other inference where it has one.
fn inferences(mut file: ModelFile) -> Vec<(&'static str, ModelFile)> {
    if let ModelFile::Mechanism { mechanism } = &mut file
        && let Some(weights) = mechanism.weights_mut()
    {
        // Those of the instance.
        *weights = None;
    }
    let mut all = vec![("", file.clone())];
    if let ModelFile::Mechanism { mechanism: MechanismSpec::Expanding(mut spec) } = file {
        spec.inference = ExpandingInference::MeanField(EngineSpec::default());
        let mechanism = MechanismSpec::Expanding(spec);
        all.push((", mean field", ModelFile::Mechanism { mechanism }));
    }
    all
}
