//! Between Burn's flex tensors and array views, without a copy wherever the strides allow it.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Element, TensorData};
use marginals::{Error, Posterior, Real};
use ndarray::{Array, ArrayView, ArrayView4, Dimension, ShapeBuilder};

use super::model::AnyModel;

/// Flex's tensor: shared bytes, a shape, strides and a number format.
pub(super) type Primitive = FloatTensor<Flex>;

/// A number format the operations run in.
pub(super) trait Number: Real + Element + marginals::Element<Real = Self> {
    /// All the numbers a tensor's strides point into.
    fn storage(tensor: &Primitive) -> &[Self];

    /// A model's posterior in this format.
    fn posterior<'a>(
        model: &'a dyn AnyModel,
        q: ArrayView4<'a, Self>,
        k: ArrayView4<'a, Self>,
    ) -> Result<Posterior<'a, Self>, Error>;
}

macro_rules! number {
    ($number:ty, $posterior:ident) => {
        impl Number for $number {
            fn storage(tensor: &Primitive) -> &[Self] {
                tensor.storage::<Self>()
            }
            fn posterior<'a>(
                model: &'a dyn AnyModel,
                q: ArrayView4<'a, Self>,
                k: ArrayView4<'a, Self>,
            ) -> Result<Posterior<'a, Self>, Error> {
                model.$posterior(q, k)
            }
        }
    };
}
number!(f32, single);
number!(f64, double);

/// Refuses a number format that the operations do not run in.
pub(super) fn check_format(name: &str, format: DType, expected: DType) -> Result<(), Error> {
    if format == expected && matches!(format, DType::F32 | DType::F64) {
        return Ok(());
    }
    let wanted = match expected {
        DType::F64 => "F64, as the other tensors",
        DType::F32 => "F32, as the other tensors",
        _ => "F32 or F64",
    };
    Err(Error::value(format!("number format of {name}"), wanted, format!("{format:?}")))
}

/// A tensor as the engine reads it: the last axis contiguous. Copies only what is not so already.
pub(super) fn readable<T: Number>(tensor: &Primitive) -> Primitive {
    match try_view::<T, ndarray::IxDyn>(tensor) {
        Some(_) => tensor.clone(),
        None => tensor.to_contiguous(),
    }
}

/// A tensor that [`readable`] returned, as a view.
pub(super) fn view<T: Number, D: Dimension>(tensor: &Primitive) -> ArrayView<'_, T, D> {
    try_view(tensor).expect("`readable` has seen to the strides")
}

fn try_view<T: Number, D: Dimension>(tensor: &Primitive) -> Option<ArrayView<'_, T, D>> {
    let layout = tensor.layout();
    let axes = layout.num_dims();
    if D::NDIM.is_some_and(|wanted| wanted != axes) {
        return None;
    }
    let (mut shape, mut strides) = (D::zeros(axes), D::zeros(axes));
    for axis in 0..axes {
        shape[axis] = layout.shape()[axis];
        // A flipped axis runs backwards.
        strides[axis] = usize::try_from(layout.strides()[axis]).ok()?;
    }
    if layout.num_elements() == 0 {
        return ArrayView::from_shape(shape, &[]).ok();
    }
    if axes > 0 && shape[axes - 1] > 1 && strides[axes - 1] != 1 {
        return None;
    }
    let from = T::storage(tensor).get(layout.start_offset()..)?;
    // Refuses strides of 0, which a broadcast leaves behind.
    ArrayView::from_shape(shape.strides(strides), from).ok()
}

/// The numbers of a contiguous tensor.
pub(super) fn numbers<T: Number>(tensor: &Primitive) -> &[T] {
    let first = tensor.layout().start_offset();
    &T::storage(tensor)[first..first + tensor.layout().num_elements()]
}

/// An array as a tensor, moved and not copied where it lies in row-major order.
pub(super) fn tensor<T: Number, D: Dimension>(array: Array<T, D>) -> Primitive {
    let shape = array.shape().to_vec();
    vector(flat(array), shape)
}

/// Numbers in row-major order as a tensor.
pub(super) fn vector<T: Number>(
    values: Vec<T>,
    shape: impl Into<burn::tensor::Shape>,
) -> Primitive {
    Primitive::from_data(TensorData::new(values, shape))
}

/// Numbers in a row as a tensor of one axis.
pub(super) fn row<T: Number>(values: Vec<T>) -> Primitive {
    let length = values.len();
    vector(values, [length])
}

/// An array's entries in row-major order, moved out where that is how they lie.
pub(super) fn flat<T: Clone, D: Dimension>(array: Array<T, D>) -> Vec<T> {
    match array.is_standard_layout() {
        true => array.into_raw_vec_and_offset().0,
        false => array.iter().cloned().collect(),
    }
}
