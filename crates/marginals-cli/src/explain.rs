//! `marginals explain`: what a mechanism is made of, and what the engine can answer.

mod aliases;
mod capabilities;
pub(crate) mod page;

use std::collections::HashSet;

use clap::Args;
use marginals::question::{Entry, QUESTIONS};
use marginals::spec::{Description, parts};
use marginals::zoo::{MECHANISMS, Mechanism};
use thiserror::Error;

use crate::output::{self, PrintError};
use page::Page;

/// Say what a mechanism is made of: structure, prior, potential, value, inference and update
///
/// With its equations, sources and the model file that reaches it with `marginals infer`. Parts of
/// the model language and questions are explained too, and everything by the names that the field has for
/// it: GAT, gqa, T5, slot attention.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A mechanism, a part or a question, in one word or several; without it, all their names
    name: Vec<String>,
    /// Print what the engine can answer and differentiate, in Markdown
    #[arg(long, conflicts_with = "name")]
    table: bool,
}

/// Error of `explain`.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// A name nothing answers to.
    #[error(transparent)]
    Name(#[from] marginals::Error),
    /// Standard output.
    #[error(transparent)]
    Print(#[from] PrintError),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), ExplainError> {
    if arguments.table {
        return Ok(output::print(&capabilities::table())?);
    }
    let mut page = Page::for_standard_output();
    match arguments.name.as_slice() {
        [] => list(&mut page),
        words => explain(&mut page, &words.join(" "))?,
    }
    Ok(output::print(&page.into_text())?)
}

/// Kinds of parts, as headings.
const KINDS: &[(&str, &str)] = &[
    ("structure", "structures"),
    ("prior", "priors"),
    ("potential", "potentials"),
    ("distance", "distances, of priors of distance"),
];

fn list(page: &mut Page) {
    let names = MECHANISMS.iter().map(|m| m.name).chain(parts().map(|p| p.name));
    let width = names.map(str::len).max().unwrap_or(0);
    page.title("mechanisms", "marginals explain NAME says what each is made of");
    for mechanism in MECHANISMS {
        page.field(mechanism.name, width, mechanism.title);
    }
    for (kind, heading) in KINDS {
        page.heading(heading);
        for part in parts().filter(|part| part.kind == *kind) {
            page.field(part.name, width, part.meaning);
        }
    }
    page.heading("questions");
    for question in QUESTIONS {
        page.field(question.name, width, question.definition);
    }
}

/// Everything that is called `name`: a mechanism and the part that makes it may share theirs.
fn explain(page: &mut Page, name: &str) -> Result<(), marginals::Error> {
    let ours = aliases::ours(name).unwrap_or(name);
    let is_so_called = |own: &str| aliases::are_one(own, ours);
    let mechanism = MECHANISMS.iter().find(|mechanism| is_so_called(mechanism.name));
    let parts_so_called = parts().filter(|part| is_so_called(part.name));
    let question = QUESTIONS.iter().find(|question| is_so_called(question.name));
    let mut is_explained = false;
    let mut explaining = |page: &mut Page| {
        if std::mem::replace(&mut is_explained, true) {
            page.rule();
        }
    };
    if let Some(mechanism) = mechanism {
        explaining(page);
        explain_mechanism(page, mechanism);
    }
    for part in parts_so_called {
        explaining(page);
        explain_part(page, part);
    }
    if let Some(question) = question {
        explaining(page);
        explain_question(page, question);
    }
    if is_explained {
        let others = aliases::theirs(ours);
        if !others.is_empty() {
            page.heading("also called");
            page.item(&others.join(", "));
        }
        return Ok(());
    }
    let mechanisms = MECHANISMS.iter().map(|mechanism| mechanism.name);
    let parts = parts().map(|part| part.name);
    let questions = QUESTIONS.iter().map(|question| question.name);
    // Some are a mechanism and a part.
    let mut seen = HashSet::new();
    let known: Vec<&str> =
        mechanisms.chain(parts).chain(questions).filter(|name| seen.insert(*name)).collect();
    Err(marginals::Error::unknown("mechanism, part or question", name, &known))
}

fn explain_mechanism(page: &mut Page, mechanism: &Mechanism) {
    page.title(mechanism.name, mechanism.title);
    page.heading("made of");
    for (label, text) in [
        ("structure", mechanism.structure),
        ("prior", mechanism.prior),
        ("potential", mechanism.potential),
        ("value", mechanism.value),
        ("inference", mechanism.inference),
        ("update", mechanism.update.unwrap_or("none: no node is latent")),
    ] {
        page.field(label, "structure".len(), text);
    }
    page.heading("equations");
    for equation in mechanism.equations {
        page.item(equation);
    }
    page.heading("sources");
    for source in mechanism.sources {
        page.item(source);
    }
    page.heading("in the library");
    page.item(mechanism.path);
    page.heading("model file, for `marginals infer --model FILE`");
    page.verbatim(mechanism.model);
}

fn explain_part(page: &mut Page, part: &Description) {
    page.title(part.name, &format!("a {}", part.kind));
    page.heading("definition");
    page.item(part.meaning);
    if !part.settings().is_empty() {
        page.field("settings", "settings".len(), &part.settings().join(", "));
    }
    if !part.tensors.is_empty() {
        let tensors: Vec<String> = part.tensors.iter().map(ToString::to_string).collect();
        page.field("tensors", "settings".len(), &tensors.join("; "));
    }
    page.heading("in a model file");
    page.verbatim(&match part.kind {
        "prior" => format!("prior = [{}]", part.example),
        "distance" => {
            format!("prior = [{{ geometric = {{ rho = 0.1, distance = {} }} }}]", part.example)
        }
        kind => format!("{kind} = {}", part.example),
    });
}

fn explain_question(page: &mut Page, question: &Entry) {
    page.title(question.name, "a question");
    page.heading("definition");
    page.item(question.definition);
    let width = "gradient".len();
    page.field("shape", width, question.shape);
    if question.averages_values || !question.reads.is_empty() {
        let values = question.averages_values.then_some("v");
        let tensors: Vec<&str> = values.into_iter().chain(question.reads.iter().copied()).collect();
        page.field("tensors", width, &tensors.join(", "));
    }
    if question.differentiable {
        page.field("gradient", width, &format!("of a loss in it, given as grad.{}", question.name));
    }
    page.heading("asked by");
    page.verbatim(&format!("marginals infer … --ask {}", question.usage()));
}
