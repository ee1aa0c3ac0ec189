//! Errors, named after the argument at fault.

use thiserror::Error;

use crate::{excerpt, words};

/// An answer that could not be given: which argument, what was expected, what came, what to do.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or parameter of the wrong shape.
    #[error("`{}` has shape {}, expected {expected}. {advice}", brief(.argument), brief(.found))]
    Shape {
        /// The argument at fault.
        argument: String,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        found: String,
        /// Advice: what to do about it.
        advice: String,
    },
    /// A number outside its range.
    #[error("`{}` is {}, expected {expected}", brief(.argument), brief(.found))]
    Value {
        /// The argument at fault.
        argument: String,
        /// The range it should lie in.
        expected: String,
        /// The value it has.
        found: String,
    },
    /// A tensor that holds NaN where it must not, or where the caller asked for checks.
    #[error("`{}` holds NaN at {position:?}, expected numbers. {advice}", brief(.tensor))]
    NotANumber {
        /// The tensor.
        tensor: String,
        /// Index of the first NaN.
        position: Vec<usize>,
        /// Advice: what to do about it.
        advice: &'static str,
    },
    /// A name that nothing answers to.
    #[error("there is no {kind} named `{}`{}. {}Known: {}", brief(.name), nearest_hint(.nearest), told(.advice), listed(.known))]
    UnknownName {
        /// Kind of thing that was being named (structure, prior, question …).
        kind: &'static str,
        /// The name given.
        name: String,
        /// The known name closest to it, where one is close.
        nearest: Option<Box<str>>,
        /// Our word for it, where it is a word of other libraries.
        advice: Option<&'static str>,
        /// Every known name.
        known: Box<[String]>,
    },
    /// A tensor that the model names and the input lacks.
    #[error("the model needs the tensor `{name}` ({why}), and the input does not hold it{}. It holds: {}", by_another_name(.name, .present), listed(.present))]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The part of the model that reads it.
        why: String,
        /// The names that are there.
        present: Vec<String>,
    },
    /// A tensor whose entries are not of the kind that the model reads.
    #[error("the tensor `{}` holds {found}, expected {expected}. {advice}", brief(.name))]
    Entries {
        /// The tensor.
        name: String,
        /// The entries it should have.
        expected: String,
        /// The entries it has.
        found: String,
        /// Advice: what to do about it.
        advice: &'static str,
    },
    /// A question that this posterior, or this use of it, cannot answer.
    #[error("`{}` cannot be answered here: {why}. {instead}", brief(.question))]
    NotAnswerable {
        /// The question.
        question: String,
        /// The reason.
        why: String,
        /// Advice: what to ask instead.
        instead: String,
    },
    /// A part that does not define its gradient.
    #[error("{part} defines no gradient; implement `{method}` for it")]
    NoGradient {
        /// The prior or potential.
        part: String,
        /// The method that is missing.
        method: &'static str,
    },
    /// A description of a model that does not parse.
    #[error("it does not read as {format}: {message}")]
    Spec {
        /// TOML or JSON.
        format: &'static str,
        /// Message of the parser, with the position.
        message: String,
    },
}

/// Characters of a name or a value that was given, and names of a list, that a message carries.
const BRIEF: usize = 120;
const LISTED: usize = 100;

/// Name or value that was given, shortened: whoever wrote it may have written anything.
fn brief(given: &str) -> std::borrow::Cow<'_, str> {
    excerpt(given, BRIEF)
}

fn listed(names: &[String]) -> String {
    let mut list: Vec<_> = names.iter().take(LISTED).map(|name| brief(name)).collect();
    if names.len() > LISTED {
        list.push(format!("and {} more", names.len() - LISTED).into());
    }
    list.join(", ")
}

/// A sentence of advice before another.
fn told(advice: &Option<&'static str>) -> String {
    advice.map(|advice| format!("{advice}. ")).unwrap_or_default()
}

fn by_another_name(name: &str, present: &[String]) -> String {
    match words::tensor(name, present) {
        Some(held) => format!(" by that name (is it `{}`?)", brief(held)),
        None => String::new(),
    }
}

fn nearest_hint(nearest: &Option<Box<str>>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

impl Error {
    /// A shape error; `expected` is described in words or as a shape.
    pub fn shape(
        argument: impl Into<String>,
        expected: impl Into<String>,
        found: &[usize],
        advice: impl Into<String>,
    ) -> Self {
        Self::Shape {
            argument: argument.into(),
            expected: expected.into(),
            found: format!("{found:?}"),
            advice: advice.into(),
        }
    }

    /// A number outside its range.
    pub fn value(
        argument: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Value {
            argument: argument.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// A tensor whose entries are not of the kind that is read.
    pub fn entries(
        name: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Entries {
            name: name.into(),
            expected: expected.into(),
            found: found.into(),
            advice: "Convert it and write the input again",
        }
    }

    /// Advice for the entries of a mask in place of the usual: converted as they are, 0 and 1 would be
    /// log-weights too. Other errors stay.
    pub fn of_a_mask(self) -> Self {
        match self {
            Self::Entries { name, expected, found, .. } => Self::Entries {
                name,
                expected,
                found,
                advice: "It is added to the scores: a mask is 0 where an edge may be picked and −inf where \
                         not, or truth values (BOOL), true where it may",
            },
            other => other,
        }
    }

    /// NaN in `tensor`, where nothing can be made of it.
    pub fn not_a_number(tensor: impl Into<String>, position: Vec<usize>) -> Self {
        Self::NotANumber { tensor: tensor.into(), position, advice: "Mend the input" }
    }

    /// NaN that was looked for because the caller asked: that may be left out. Other errors stay.
    pub fn of_a_check(self) -> Self {
        match self {
            Self::NotANumber { tensor, position, .. } => Self::NotANumber {
                tensor,
                position,
                advice: "Mend the input, or leave the check out to let NaN through to the rows it \
                         touches",
            },
            other => other,
        }
    }

    /// An unknown name, with the closest of the known ones.
    pub fn unknown(kind: &'static str, name: &str, known: &[&str]) -> Self {
        let advice = words::advice(kind, name, known);
        // A word of other libraries is no misspelling, and a name that long is not one either.
        let may_be_near = advice.is_none() && name.len() < BRIEF;
        let nearest = known
            .iter()
            .filter(|_| may_be_near)
            .map(|candidate| (edit_distance(name, candidate), *candidate))
            .min()
            .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
            .map(|(_, candidate)| candidate.into());
        Self::UnknownName {
            kind,
            name: name.to_owned(),
            nearest,
            advice,
            known: known.iter().map(|&k| k.to_owned()).collect(),
        }
    }
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let known = ["causal", "window", "geometric"];
        let Error::UnknownName { nearest, .. } = Error::unknown("prior", "geometrc", &known) else {
            unreachable!()
        };
        assert_eq!(nearest.as_deref(), Some("geometric"));
        let text = Error::unknown("prior", "quux", &known).to_string();
        assert!(!text.contains("did you mean"), "{text}");
        assert!(text.contains("causal, window, geometric"), "{text}");
    }

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
