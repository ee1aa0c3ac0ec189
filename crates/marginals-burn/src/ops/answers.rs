//! What may be asked on the tape, and the answers as tensors.

use burn::tensor::Tensor;
use marginals::Error;

/// A question whose answer can be differentiated: see [`marginals::question`] for the definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// E\[v\], `[B, H, N, Dv]`.
    Mean,
    /// E\[v²\] − E\[v\]², `[B, H, N, Dv]`.
    ValueVariance,
    /// log Z(θ), `[B, H, F]`.
    LogPartition,
    /// log Z(θ) − log Z(log w), `[B, H, F]`.
    LogEvidence,
    /// −E\[log p\], `[B, H, F]`.
    Entropy,
    /// KL(posterior ‖ prior), `[B, H, F]`.
    Kl,
    /// Σ_i p_ij, `[B, H, M]`.
    ColumnMass,
    /// Σ_j p_ij, `[B, H, N]`.
    QueryMass,
    /// E|i − j|, `[B, H, N]`.
    ExpectedDistance,
}

impl Question {
    /// Every question.
    pub const ALL: [Self; 9] = [
        Self::Mean,
        Self::ValueVariance,
        Self::LogPartition,
        Self::LogEvidence,
        Self::Entropy,
        Self::Kl,
        Self::ColumnMass,
        Self::QueryMass,
        Self::ExpectedDistance,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::ValueVariance => "value-variance",
            Self::LogPartition => "log-partition",
            Self::LogEvidence => "log-evidence",
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::ColumnMass => "column-mass",
            Self::QueryMass => "query-mass",
            Self::ExpectedDistance => "expected-distance",
        }
    }

    /// Whether it averages values.
    pub fn averages_values(self) -> bool {
        matches!(self, Self::Mean | Self::ValueVariance)
    }
}

/// Sizes that the shapes of answers are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    /// Queries, or keys where keys choose.
    pub factors: usize,
    pub value_width: usize,
}

/// Where one answer lies among the packed ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub question: Question,
    pub start: usize,
    /// The answer's shape; of three axes, the last is 1.
    pub shape: [usize; 4],
}

impl Place {
    /// The questions' answers one after another, the largest first: the first grows into the packed
    /// buffer instead of being copied there.
    pub fn pack(questions: &[Question], sizes: &Sizes) -> Vec<Self> {
        let &Sizes { batch, heads, queries, keys, factors, value_width } = sizes;
        let shape = |question| match question {
            Question::Mean | Question::ValueVariance => [batch, heads, queries, value_width],
            Question::LogPartition | Question::LogEvidence | Question::Entropy | Question::Kl => {
                [batch, heads, factors, 1]
            }
            Question::ColumnMass => [batch, heads, keys, 1],
            Question::QueryMass | Question::ExpectedDistance => [batch, heads, queries, 1],
        };
        let mut order = questions.to_vec();
        order.sort_by_key(|question| !question.averages_values());
        let mut start = 0;
        let place = |question| {
            let place = Self { question, start, shape: shape(question) };
            start += place.len();
            place
        };
        order.into_iter().map(place).collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Answers of one pass.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Answers of three axes have a fourth of length 1.
    answers: Vec<(Question, Tensor<4>)>,
}

impl Answers {
    pub(super) fn new(answers: Vec<(Question, Tensor<4>)>) -> Self {
        Self { answers }
    }

    /// Views into one packed tensor.
    pub(super) fn unpack(packed: &Tensor<1>, places: &[Place]) -> Self {
        let view = |place: &Place| {
            let answer = match places.len() {
                1 => packed.clone(),
                _ => packed.clone().narrow(0, place.start, place.len()),
            };
            (place.question, answer.reshape(place.shape))
        };
        Self { answers: places.iter().map(view).collect() }
    }

    /// The answer to one question, of the shape that [`Question`] gives: four axes for averages of
    /// values, three for everything else.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where it was not asked, [`Error::Shape`] where it has not `D` axes.
    pub fn get<const D: usize>(&self, question: Question) -> Result<Tensor<D>, Error> {
        let found = self.answers.iter().find(|(asked, _)| *asked == question);
        let Some((_, answer)) = found else {
            return Err(Error::NotAnswerable {
                question: question.name().into(),
                why: "it was not asked".into(),
                instead: "Name it when asking.".into(),
            });
        };
        let axes = if question.averages_values() { 4 } else { 3 };
        let shape = answer.dims();
        match <[usize; D]>::try_from(&shape[..axes]) {
            Ok(shape) => Ok(answer.clone().reshape(shape)),
            Err(_) => Err(Error::shape(
                question.name(),
                format!("{D} axes, as asked of `get`"),
                &shape[..axes],
                "Averages of values have four axes, other answers three.",
            )),
        }
    }
}
