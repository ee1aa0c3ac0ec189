//! Second keys of pairs.

use ndarray::Array4;

use crate::infer::streaming::{Softmax, Streaming};
use crate::{Real, Shape};

/// Farthest behind its query that a first and a second key may be, its own position counted: none of
/// them lies ahead then. Any key may be picked where absent.
pub type Windows = [Option<usize>; 2];

/// Inference over pairs of keys.
#[derive(Debug)]
pub struct Pairs<T: Real> {
    /// Second keys, [B, Hk, M2, D].
    pub(super) keys: Array4<T>,
    /// Their values, [B, Hk, M2, D_v].
    pub(super) values: Option<Array4<T>>,
    pub(super) windows: Windows,
    /// Choice of a second key.
    pub(super) step: Streaming<'static, T>,
}

impl<T: Real> Pairs<T> {
    /// Inference over pairs with these second keys.
    pub(crate) fn new(keys: Array4<T>, values: Option<Array4<T>>, windows: Windows) -> Self {
        let step = Streaming::rows(Softmax { null: None });
        Self { keys, values, windows, step }
    }

    /// Sizes of a pass over the second keys.
    pub(super) fn inner_shape(&self, shape: &Shape) -> Shape {
        let (_, key_heads, keys, key_width) = self.keys.dim();
        Shape { key_heads, keys, key_width, ..*shape }
    }
}
