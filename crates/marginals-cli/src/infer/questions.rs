//! Questions named on the command line.

use marginals::question::{
    AnyQuestion, Asked, ColumnMass, Draws, Entropy, ExpectedDistance, Kl, LogEvidence,
    LogPartition, Map, Marginals, MaxProbability, Mean, QueryMass, Question, Samples, TopK,
    ValueVariance,
};
use marginals::{Element, Error, Pass, Posterior, Real};
use ndarray::Array4;

use super::tensors::Output;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Mean,
    LogPartition,
    LogEvidence,
    Entropy,
    Kl,
    ColumnMass,
    QueryMass,
    ExpectedDistance,
    ValueVariance,
    MaxProbability,
    Map,
    TopK(usize),
    Samples(usize),
    Marginals,
    Hops,
    Paths,
}

/// Every question, with its definition and the shape of its answer. F counts the factors: queries,
/// or keys where keys choose.
pub const QUESTIONS: &[(&str, &str, &str)] = &[
    ("mean", "E[v]", "[B, H, N, D_v]"),
    ("log-partition", "log Z(θ)", "[B, H, F]"),
    ("log-evidence", "log Z(θ) − log Z(log w) = log Σ_φ π(φ) ψ(φ)", "[B, H, F]"),
    ("entropy", "−E[log p]", "[B, H, F]"),
    ("kl", "KL(posterior ‖ prior)", "[B, H, F]"),
    ("column-mass", "Σ_i p_ij", "[B, H, M]"),
    ("query-mass", "Σ_j p_ij", "[B, H, N]"),
    ("expected-distance", "E|i − j|", "[B, H, N]"),
    ("value-variance", "E[v²] − E[v]²", "[B, H, N, D_v]"),
    ("max-probability", "max_j p_ij", "[B, H, F]"),
    ("map", "argmax_j p_ij, −1 for no edge", "[B, H, F]"),
    ("top-k", "the k best edges and their probabilities, asked as top-k=K", "[B, H, F, K], twice"),
    ("samples", "S exact draws, asked as samples=S", "[S, B, H, F]; sets of edges [S, B, H, N, M]"),
    ("marginals", "p_ij = P(φ_ij = 1)", "[B, H, N, M]"),
    ("hops", "P(h | the walk arrives), of walks", "[B, H, N, hops + 1]"),
    ("paths", "log p of the paths in the tensor `paths` [paths, nodes], of walks", "[B, H, paths]"),
];

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::LogPartition => "log-partition",
            Self::LogEvidence => "log-evidence",
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::ColumnMass => "column-mass",
            Self::QueryMass => "query-mass",
            Self::ExpectedDistance => "expected-distance",
            Self::ValueVariance => "value-variance",
            Self::MaxProbability => "max-probability",
            Self::Map => "map",
            Self::TopK(_) => "top-k",
            Self::Samples(_) => "samples",
            Self::Marginals => "marginals",
            Self::Hops => "hops",
            Self::Paths => "paths",
        }
    }
}

/// The questions of one command.
#[derive(Debug)]
pub struct Questions {
    names: Vec<Name>,
    seed: u64,
}

impl Questions {
    /// Reads a comma-separated list.
    pub fn parse(list: &str, seed: u64) -> Result<Self, Error> {
        let names: Result<Vec<Name>, Error> =
            list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(parse).collect();
        let names = names?;
        for (i, name) in names.iter().enumerate() {
            let kind = std::mem::discriminant(name);
            if names[..i].iter().any(|other| std::mem::discriminant(other) == kind) {
                return Err(Error::Value {
                    argument: "--ask".into(),
                    expected: "each question once".into(),
                    found: list.into(),
                });
            }
        }
        Ok(Self { names, seed })
    }

    /// Refuses to ask nothing, where nothing would be answered.
    pub fn refuse_none(&self) -> Result<(), Error> {
        if !self.names.is_empty() {
            return Ok(());
        }
        let known: Vec<&str> = QUESTIONS.iter().map(|(name, _, _)| *name).collect();
        Err(Error::value("--ask", format!("one or more of {}", known.join(", ")), "empty"))
    }

    /// The questions' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().map(|name| name.text())
    }

    /// Whether a question averages values.
    pub fn average_values(&self) -> bool {
        self.names.iter().any(|name| matches!(name, Name::Mean | Name::ValueVariance))
    }

    /// Asks all of them in one pass and puts the answers into `output`. `values` makes the pass
    /// average values even if no question does.
    pub fn ask<'p, 'a, 'v, T: Real + Element<Real = T>>(
        &self,
        posterior: &'p Posterior<'a, T>,
        v: Option<&'v Array4<T>>,
        values: bool,
        output: &mut Output<T>,
    ) -> Result<Pass<'p, 'a, 'v, T>, Error> {
        let view = || v.expect("read when a question averages values").view();
        let mean = v.map(|v| Mean(v.view()));
        let variance = v.map(|v| ValueVariance(v.view()));
        let top_k = self.names.iter().find_map(|name| match name {
            Name::TopK(k) => Some(TopK(*k)),
            _ => None,
        });
        let samples = self.names.iter().find_map(|name| match name {
            Name::Samples(count) => Some(Samples { count: *count, seed: self.seed }),
            _ => None,
        });
        let mut asked: Vec<&dyn AnyQuestion<'v, T>> = Vec::new();
        for name in &self.names {
            match name {
                Name::Mean => asked.extend(mean.as_ref().map(|q| q as &dyn AnyQuestion<'v, T>)),
                Name::ValueVariance => {
                    asked.extend(variance.as_ref().map(|q| q as &dyn AnyQuestion<'v, T>));
                }
                Name::TopK(_) => asked.extend(top_k.as_ref().map(|q| q as &dyn AnyQuestion<'v, T>)),
                Name::Samples(_) => {
                    asked.extend(samples.as_ref().map(|q| q as &dyn AnyQuestion<'v, T>));
                }
                Name::LogPartition => asked.push(&LogPartition),
                Name::LogEvidence => asked.push(&LogEvidence),
                Name::Entropy => asked.push(&Entropy),
                Name::Kl => asked.push(&Kl),
                Name::ColumnMass => asked.push(&ColumnMass),
                Name::QueryMass => asked.push(&QueryMass),
                Name::ExpectedDistance => asked.push(&ExpectedDistance),
                Name::MaxProbability => asked.push(&MaxProbability),
                Name::Map => asked.push(&Map),
                Name::Marginals => asked.push(&Marginals),
                Name::Hops | Name::Paths => {
                    return Err(Error::NotAnswerable {
                        question: name.text().into(),
                        why: "the structure of this model takes no hops".into(),
                        instead: "Ask it of the structure `walk`.".into(),
                    });
                }
            }
        }
        if values {
            asked.extend(mean.as_ref().map(|q| q as &dyn AnyQuestion<'v, T>));
        }
        let pass = posterior.pass(&Asked(asked))?;
        for name in &self.names {
            match name {
                Name::Mean => output.real("mean", pass.answer(&Mean(view()))?.into_dyn()),
                Name::ValueVariance => {
                    let answer = pass.answer(&ValueVariance(view()))?;
                    output.real("value-variance", answer.into_dyn());
                }
                Name::LogPartition => real(&pass, LogPartition, "log-partition", output)?,
                Name::LogEvidence => real(&pass, LogEvidence, "log-evidence", output)?,
                Name::Entropy => real(&pass, Entropy, "entropy", output)?,
                Name::Kl => real(&pass, Kl, "kl", output)?,
                Name::ColumnMass => real(&pass, ColumnMass, "column-mass", output)?,
                Name::QueryMass => real(&pass, QueryMass, "query-mass", output)?,
                Name::ExpectedDistance => {
                    real(&pass, ExpectedDistance, "expected-distance", output)?
                }
                Name::MaxProbability => real(&pass, MaxProbability, "max-probability", output)?,
                Name::Map => output.integer("map", pass.answer(&Map)?.into_dyn()),
                Name::TopK(k) => {
                    let answer = pass.answer(&TopK(*k))?;
                    output.integer("top-k.index", answer.index.into_dyn());
                    output.real("top-k.probability", answer.probability.into_dyn());
                }
                Name::Samples(count) => {
                    match pass.answer(&Samples { count: *count, seed: self.seed })? {
                        Draws::Choices(choices) => output.integer("samples", choices.into_dyn()),
                        Draws::Sets(sets) => output.bytes("samples", sets.into_dyn()),
                    }
                }
                Name::Marginals => {
                    output.real("marginals", pass.answer(&Marginals)?.into_dyn());
                }
                // Refused above.
                Name::Hops | Name::Paths => {}
            }
        }
        Ok(pass)
    }
}

/// Answers a question whose answer has one number per factor, query or key.
fn real<'v, T: Real, Q: Question<'v, T, Answer = ndarray::Array3<T>>>(
    pass: &Pass<'_, '_, 'v, T>,
    question: Q,
    name: &str,
    output: &mut Output<T>,
) -> Result<(), Error> {
    output.real(name, pass.answer(&question)?.into_dyn());
    Ok(())
}

fn parse(text: &str) -> Result<Name, Error> {
    let (name, number) = match text.split_once('=') {
        Some((name, number)) => (name.trim(), Some(number.trim())),
        None => (text, None),
    };
    let count = || -> Result<usize, Error> {
        let number = number.unwrap_or("nothing");
        number.parse().ok().filter(|&n| n > 0).ok_or_else(|| Error::Value {
            argument: name.into(),
            expected: format!("a number above 0, as in `{name}=5`"),
            found: number.into(),
        })
    };
    let plain = |question: Name| match number {
        None => Ok(question),
        Some(number) => Err(Error::Value {
            argument: name.into(),
            expected: "no number".into(),
            found: number.into(),
        }),
    };
    match name {
        "mean" => plain(Name::Mean),
        "log-partition" => plain(Name::LogPartition),
        "log-evidence" => plain(Name::LogEvidence),
        "entropy" => plain(Name::Entropy),
        "kl" => plain(Name::Kl),
        "column-mass" => plain(Name::ColumnMass),
        "query-mass" => plain(Name::QueryMass),
        "expected-distance" => plain(Name::ExpectedDistance),
        "value-variance" => plain(Name::ValueVariance),
        "max-probability" => plain(Name::MaxProbability),
        "map" => plain(Name::Map),
        "top-k" => Ok(Name::TopK(count()?)),
        "samples" => Ok(Name::Samples(count()?)),
        "marginals" => plain(Name::Marginals),
        "hops" => plain(Name::Hops),
        "paths" => plain(Name::Paths),
        _ => {
            let known: Vec<&str> = QUESTIONS.iter().map(|(name, _, _)| *name).collect();
            Err(Error::unknown("question", name, &known))
        }
    }
}
