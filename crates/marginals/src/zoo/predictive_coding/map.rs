//! Linear maps from the nodes of a layer to predictions of those of the next.

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, CowArray, Ix4, Ix5};

use crate::{Error, Real};

/// Linear map that K predictors make of the layer above, N_p units of C_p channels, for N units of C
/// channels.
#[derive(Clone, Debug)]
pub enum Map<'a, T> {
    /// Nothing: predictions are the offsets alone, a prior on causes.
    Constant,
    /// A weight [K, N, C, N_p·C_p] for every pair of numbers.
    Dense(CowArray<'a, T, Ix4>),
    /// Weights [K, C, C_p, height, width] shared over positions. Units are the cells of grids, row after
    /// row: cell (y, x) reads the cells (y·stride − padding + dy, x·stride − padding + dx) of the layer above,
    /// and 0 beyond its border.
    Convolution {
        /// [K, C, C_p, height, width].
        weight: CowArray<'a, T, Ix5>,
        /// Rows and columns of the layer above.
        above: [usize; 2],
        /// Cells of the layer above from one cell to the next, at least 1.
        stride: usize,
        /// Cells of zeros on every side of the layer above.
        padding: usize,
    },
}

impl<T> Map<'_, T> {
    /// Rows and columns of the grid that a convolution predicts; `None` where it has none.
    pub(super) fn grid(&self) -> Option<[usize; 2]> {
        let Self::Convolution { weight, above, stride, padding } = self else { return None };
        let (.., height, width) = weight.dim();
        let along = |cells: usize, reach: usize| {
            let free = (cells + 2 * padding).checked_sub(reach)?;
            Some(free.checked_div(*stride)? + 1)
        };
        Some([along(above[0], height)?, along(above[1], width)?])
    }
}

/// Sizes of both ends of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// K.
    pub predictors: usize,
    /// N and C.
    pub below: [usize; 2],
    /// N_p and C_p.
    pub above: [usize; 2],
}

/// A map as a matrix [outputs, inputs] applied to **patches**, rows of what is read together: the whole
/// layer above (one row for each entry of the batch), or what each cell sees of it (a row for each cell).
#[derive(Debug)]
pub(super) struct Matrix<'a, T> {
    weight: CowArray<'a, T, ndarray::Ix2>,
    ends: Ends,
    /// Units of the layer above that each unit reads, by unit and place; `None` where all read all.
    reads: Option<Vec<Option<usize>>>,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// `None` for a constant. `name` is that of the weight.
    pub fn new(map: &'a Map<'_, T>, ends: Ends, name: &str) -> Result<Option<Self>, Error> {
        let Ends { predictors, below, above } = ends;
        let wrong = |expected: String, found: &[usize], advice: &str| {
            Err(Error::shape(name, expected, found, advice))
        };
        let (weight, outputs, inputs, reads) = match map {
            Map::Constant => return Ok(None),
            Map::Dense(weight) => {
                let shape = [predictors, below[0], below[1], above[0] * above[1]];
                if weight.shape() != shape {
                    let advice = "A dense map is [K, N, C, N_p·C_p]: predictors, units and channels of its \
                                  layer, and all numbers of the layer above.";
                    return wrong(format!("{shape:?}"), weight.shape(), advice);
                }
                let (outputs, inputs) = (predictors * below[0] * below[1], shape[3]);
                (weight.view().into_dyn(), outputs, inputs, None)
            }
            Map::Convolution { weight, above: grid, stride, padding } => {
                let (.., height, width) = weight.dim();
                let shape = [predictors, below[1], above[1], height, width];
                if weight.shape() != shape {
                    let advice = "A convolution is [K, C, C_p, height, width]: predictors, channels of its \
                                  layer and of the layer above, and what a cell sees.";
                    return wrong(format!("{shape:?}"), weight.shape(), advice);
                }
                if grid[0] * grid[1] != above[0] {
                    let expected = format!("rows and columns of {} units", above[0]);
                    return Err(Error::value(
                        format!("{name}.above"),
                        expected,
                        format!("{grid:?}"),
                    ));
                }
                let cells = map.grid().filter(|cells| cells[0] * cells[1] == below[0]);
                let Some(cells) = cells else {
                    let expected = format!("a stride and padding that give {} units", below[0]);
                    let found = format!("stride {stride}, padding {padding}: {:?}", map.grid());
                    return Err(Error::value(name, expected, found));
                };
                let reads = reads(cells, *grid, [height, width], *stride, *padding);
                let inputs = above[1] * height * width;
                (weight.view().into_dyn(), predictors * below[1], inputs, Some(reads))
            }
        };
        // Rows of a matrix that is not contiguous are copied once.
        let weight = CowArray::from(weight)
            .into_shape_with_order((outputs, inputs))
            .or_else(|_| {
                let own: Vec<T> = match map {
                    Map::Dense(weight) => weight.iter().copied().collect(),
                    Map::Convolution { weight, .. } => weight.iter().copied().collect(),
                    Map::Constant => Vec::new(),
                };
                Array2::from_shape_vec((outputs, inputs), own).map(CowArray::from)
            })
            .expect("a matrix has as many numbers as its tensor");
        Ok(Some(Self { weight, ends, reads }))
    }

    /// Shape of the weight's gradient, as a matrix.
    pub fn dim(&self) -> (usize, usize) {
        self.weight.dim()
    }

    /// The patches of a layer above [B, N_p, C_p].
    pub fn patches(&self, above: ArrayView3<'_, T>) -> Array2<T> {
        let (batch, _, channels) = above.dim();
        let (_, inputs) = self.weight.dim();
        let Some(reads) = &self.reads else {
            let all: Vec<T> = above.iter().copied().collect();
            return Array2::from_shape_vec((batch, inputs), all).expect("all numbers of a layer");
        };
        let units = self.ends.below[0];
        let places = inputs.checked_div(channels).unwrap_or(0);
        let mut patches = Array2::zeros((batch * units, inputs));
        for (row, mut patch) in patches.rows_mut().into_iter().enumerate() {
            let (b, unit) = (row / units, row % units);
            for (place, read) in reads[unit * places..][..places].iter().enumerate() {
                let Some(from) = *read else { continue };
                for channel in 0..channels {
                    patch[channel * places + place] = above[[b, from, channel]];
                }
            }
        }
        patches
    }

    /// Outputs of the map for patches, [B, K, N, C].
    pub fn apply(&self, patches: ArrayView2<'_, T>) -> Array4<T> {
        self.by_predictor(patches.dot(&self.weight.t()))
    }

    /// The transposed map of `rows` [B, K, N, C], and added up where patches overlap: [B, N_p, C_p].
    pub fn transposed(&self, rows: &Array4<T>) -> Array3<T> {
        let batch = rows.dim().0;
        let [units_above, channels] = self.ends.above;
        let pulled = self.by_patch(rows).dot(&self.weight);
        let shape = (batch, units_above, channels);
        let Some(reads) = &self.reads else {
            return Array3::from_shape_vec(shape, by_rows(pulled)).expect("all numbers of a layer");
        };
        let units = self.ends.below[0];
        let places = self.weight.dim().1.checked_div(channels).unwrap_or(0);
        let mut above = Array3::zeros(shape);
        for (row, patch) in pulled.rows().into_iter().enumerate() {
            let (b, unit) = (row / units, row % units);
            for (place, read) in reads[unit * places..][..places].iter().enumerate() {
                let Some(to) = *read else { continue };
                for channel in 0..channels {
                    above[[b, to, channel]] += patch[channel * places + place];
                }
            }
        }
        above
    }

    /// Σ over patches of `rows` [B, K, N, C] times the patch: gradient in the weight, as a matrix.
    pub fn weight_gradient(&self, rows: &Array4<T>, patches: ArrayView2<'_, T>) -> Array2<T> {
        self.by_patch(rows).t().dot(&patches)
    }

    /// [rows of patches, outputs] as [B, K, N, C].
    fn by_predictor(&self, rows: Array2<T>) -> Array4<T> {
        let Ends { predictors, below: [units, channels], .. } = self.ends;
        let all = rows.len();
        let shared = self.reads.is_some();
        let batch = all.checked_div(predictors * units * channels).unwrap_or(0);
        let flat = by_rows(rows);
        let shape = match shared {
            true => (batch, units, predictors, channels),
            false => (batch, predictors, units, channels),
        };
        let rows = Array4::from_shape_vec(shape, flat).expect("a number for each");
        match shared {
            true => rows.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned(),
            false => rows,
        }
    }

    /// [B, K, N, C] as [rows of patches, outputs].
    fn by_patch(&self, rows: &Array4<T>) -> Array2<T> {
        let outputs = self.weight.dim().0;
        let count = rows.len().checked_div(outputs).unwrap_or(0);
        let flat: Vec<T> = match self.reads.is_some() {
            true => rows.view().permuted_axes([0, 2, 1, 3]).iter().copied().collect(),
            false => rows.iter().copied().collect(),
        };
        Array2::from_shape_vec((count, outputs), flat).expect("a number for each")
    }
}

/// Numbers of a matrix, row after row: products of narrow ones come column after column.
fn by_rows<T: Real>(matrix: Array2<T>) -> Vec<T> {
    matrix.as_standard_layout().into_owned().into_raw_vec_and_offset().0
}

/// Units of a grid `above` that every cell of a grid reads, by cell and place.
fn reads(
    cells: [usize; 2],
    above: [usize; 2],
    reach: [usize; 2],
    stride: usize,
    padding: usize,
) -> Vec<Option<usize>> {
    let at = |cell: usize, step: usize, length: usize| {
        (cell * stride + step).checked_sub(padding).filter(|&at| at < length)
    };
    let mut reads = Vec::with_capacity(cells[0] * cells[1] * reach[0] * reach[1]);
    for y in 0..cells[0] {
        for x in 0..cells[1] {
            for dy in 0..reach[0] {
                for dx in 0..reach[1] {
                    let row = at(y, dy, above[0]);
                    let column = at(x, dx, above[1]);
                    reads.push(row.zip(column).map(|(row, column)| row * above[1] + column));
                }
            }
        }
    }
    reads
}
