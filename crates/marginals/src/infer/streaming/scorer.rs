//! Making one tile of scores.

use crate::Real;
use marginals_kernels::{InstructionSet, TileMut, add_log_weights};

use super::blocks::{KEY_BLOCK, blocks};
use crate::Block;
use crate::potential::{Features, Potential};
use crate::prior::{Coverage, Prior};

/// The parts of a model that scores are made of.
pub(crate) struct Scorer<'a, T> {
    pub prior: &'a dyn Prior<T>,
    pub potential: &'a dyn Potential<T>,
}

impl<T: Real> Scorer<'_, T> {
    /// Whether the prior lets the one query of `block` have any of its keys.
    pub fn serves(&self, block: Block) -> bool {
        let mut weights = [T::zero(); KEY_BLOCK];
        let live = self.prior.live_keys(&block);
        blocks(live, block.keys.start, KEY_BLOCK).any(|keys| {
            let block = Block { keys, ..block.clone() };
            match self.prior.coverage(&block) {
                Coverage::Empty => false,
                Coverage::Free => true,
                _ => {
                    let weights = &mut weights[..block.keys.len()];
                    weights.fill(T::zero());
                    let tile = TileMut::new(weights, 1, block.keys.len(), KEY_BLOCK);
                    self.prior.add_log_weights(&block, tile);
                    weights.iter().any(|&weight| weight != T::neg_infinity())
                }
            }
        })
    }

    /// θ = log ψ + log w over `block`. Where `weights` is given it receives log w alone (untouched
    /// on a free block), and where `potential` is given, log ψ alone.
    ///
    /// The block must not be empty of possible edges; its coverage is the caller's to ask.
    pub fn fill(
        &self,
        block: &Block,
        coverage: Coverage,
        (q, k): (&Features<'_, T>, &Features<'_, T>),
        mut scores: TileMut<'_, T>,
        weights: Option<TileMut<'_, T>>,
        potential: Option<TileMut<'_, T>>,
    ) {
        self.potential.log_potential(block, q, k, scores.reborrow());
        if let Some(mut copy) = potential {
            for r in 0..scores.rows {
                copy.row_mut(r).copy_from_slice(scores.row(r));
            }
        }
        if coverage == Coverage::Free {
            return;
        }
        match weights {
            None => self.prior.add_log_weights(block, scores),
            Some(mut weights) => {
                (0..weights.rows).for_each(|r| weights.row_mut(r).fill(T::zero()));
                self.prior.add_log_weights(block, weights.reborrow());
                let weights = weights.as_tile();
                add_log_weights(InstructionSet::detect(), scores, |r| weights.row(r));
            }
        }
    }
}
