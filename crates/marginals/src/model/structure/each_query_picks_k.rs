use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{Coupled, Factors, PerQuery, Ragged};
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Σ_j φ_ij = k: every query has exactly k edges, or at most k.
///
/// p(φ_i) ∝ exp(Σ_j φ_ij θ_ij) over the subsets of k keys; Z is the elementary symmetric polynomial
/// e_k(e^θ_i1 … e^θ_iM), or e_0 + … + e_k, by the recursion e_k(x_1 … x_j) = e_k(x_1 … x_j−1) + x_j
/// e_k−1(x_1 … x_j−1) in log space. Subset sampling: Kulesza & Taskar, arXiv 1207.6083 §5; Xie & Ermon,
/// arXiv 1901.10517; as attention, Kim et al., arXiv 1702.00887. The mean is Σ_j P(φ_ij = 1) v_j, whose
/// weights sum to k. Cost: O(N M k) exponentials, O(M k) memory a query.
///
/// With fewer than k possible keys a query has no edge set: log-partition −∞, everything else 0. MAP is a
/// set: ask [`KBest`](crate::question::KBest).
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::question::{LogCount, QueryMass};
/// use marginals::structure::EachQueryPicksK;
/// # use ndarray::Array4;
/// # let (q, k) = (Array4::<f64>::zeros((1, 1, 2, 2)), Array4::<f64>::zeros((1, 1, 5, 2)));
/// let model = Model::new(EachQueryPicksK::exactly(2), Uniform, Dot::scaled(2));
/// let (count, mass) = model.posterior(q.view(), k.view())?.ask((LogCount, QueryMass))?;
/// assert!((count[[0, 0, 0]] - 10f64.ln()).abs() < 1e-12); // 5 over 2
/// assert!((mass[[0, 0, 1]] - 2.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EachQueryPicksK {
    /// k.
    k: usize,
    /// Exactly k, or at most.
    #[serde(default)]
    count: Count,
}

/// Meaning of k.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Σ_j φ_ij = k.
    #[default]
    Exactly,
    /// Σ_j φ_ij ≤ k.
    AtMost,
}

impl EachQueryPicksK {
    /// Exactly k edges for every query.
    pub fn exactly(k: usize) -> Self {
        Self { k, count: Count::Exactly }
    }

    /// At most k edges for every query.
    pub fn at_most(k: usize) -> Self {
        Self { k, count: Count::AtMost }
    }
}

impl Part for EachQueryPicksK {
    const NAME: &'static str = "each-query-picks-k";
    const MEANING: &'static str = "Σ_j φ_ij = k (`count = \"at-most\"`: ≤ k): subsets of the keys, by elementary symmetric polynomials";
    const EXAMPLE: &'static str = "{ each-query-picks-k = { k = 2 } }";
}

impl StructurePart for EachQueryPicksK {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(*self))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

/// All keys are there.
static WHOLE: Ragged = Ragged::whole();

impl<T: Real> Structure<T> for EachQueryPicksK {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Coupled::new(Fold { unfold: *self }, Factors::Query, Vec::new(), &WHOLE))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        if self.count == Count::Exactly && self.k > shape.keys {
            let expected = format!("at most {}, the keys there are", shape.keys);
            return Err(Error::value("each-query-picks-k.k", expected, self.k));
        }
        Ok(())
    }
}

impl Unfold for EachQueryPicksK {
    fn per_query(&self) -> PerQuery {
        PerQuery::Several
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        let k = self.k.min(size.keys);
        let impossible = self.count == Count::Exactly && self.k > size.keys;
        Box::new(Subsets { size, k, count: self.count, impossible })
    }
}

/// Cell j (k + 1) + c is every subset of c of the first j keys.
#[derive(Debug)]
struct Subsets {
    size: Size,
    k: usize,
    count: Count,
    /// Whether more are to be picked than there are.
    impossible: bool,
}

impl Subsets {
    fn cell(&self, keys: usize, picked: usize) -> usize {
        keys * (self.k + 1) + picked
    }
}

impl Recursion for Subsets {
    fn cells(&self) -> usize {
        self.cell(self.size.keys + 1, 0) + 1
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        let (keys, picked) = (cell / (self.k + 1), cell % (self.k + 1));
        if keys > self.size.keys {
            let all = match self.count {
                Count::Exactly if self.impossible => self.k + 1..self.k + 1,
                Count::Exactly => self.k..self.k + 1,
                Count::AtMost => 0..self.k + 1,
            };
            into.extend(all.map(|picked| Rule::cell(self.cell(self.size.keys, picked))));
            return;
        }
        if picked == 0 && keys == 0 {
            into.push(Rule::ONE);
            return;
        }
        if keys > picked {
            into.push(Rule::cell(self.cell(keys - 1, picked)));
        }
        if picked > 0 && picked <= keys {
            let edge = self.size.edge(0, keys - 1);
            into.push(Rule::cell(self.cell(keys - 1, picked - 1)).with(edge));
        }
    }

    fn goal(&self, _queries: usize, _keys: usize) -> usize {
        self.cell(self.size.keys + 1, 0)
    }
}
