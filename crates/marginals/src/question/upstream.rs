//! Gradients in answers, however they are given.

use ndarray::{Array, ArrayView, ArrayView3, ArrayView4, ArrayViewD, Dimension};

use crate::{Error, Real};

/// A kind of gradient in an answer.
pub trait Upstream {
    /// The gradient, borrowed for `'g`.
    type Of<'g, T: Real>;
}

/// A kind of gradient in one answer, which can be made of a tensor of any number of axes.
pub trait OneUpstream: Upstream {
    /// The gradient; refused where it has another number of axes, or the answer has none.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::NotAnswerable`].
    fn from_tensor<'g, T: Real>(
        question: &str,
        gradient: Option<ArrayViewD<'g, T>>,
    ) -> Result<Self::Of<'g, T>, Error>;
}

/// Gradients in answers of three axes: a number for each factor, query or key.
#[derive(Clone, Copy, Debug)]
pub struct Numbers;

/// Gradients in answers of four axes.
#[derive(Clone, Copy, Debug)]
pub struct Vectors;

/// No gradient: the answer is not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

/// Gradients in answers asked by name, in the order in which they were asked.
#[derive(Clone, Copy, Debug)]
pub struct Tensors;

impl Upstream for Numbers {
    type Of<'g, T: Real> = Option<ArrayView3<'g, T>>;
}
impl Upstream for Vectors {
    type Of<'g, T: Real> = Option<ArrayView4<'g, T>>;
}
impl Upstream for Nothing {
    type Of<'g, T: Real> = ();
}
impl Upstream for Tensors {
    type Of<'g, T: Real> = Vec<Option<ArrayViewD<'g, T>>>;
}

fn with_axes<'g, T, D: Dimension>(
    question: &str,
    gradient: Option<ArrayViewD<'g, T>>,
) -> Result<Option<ArrayView<'g, T, D>>, Error> {
    let Some(gradient) = gradient else { return Ok(None) };
    let shape = gradient.shape().to_vec();
    match gradient.into_dimensionality() {
        Ok(gradient) => Ok(Some(gradient)),
        Err(_) => Err(Error::shape(
            format!("grad.{question}"),
            format!("{} axes", D::NDIM.unwrap_or_default()),
            &shape,
            "An upstream gradient has its answer's shape.",
        )),
    }
}

impl OneUpstream for Numbers {
    fn from_tensor<'g, T: Real>(
        question: &str,
        gradient: Option<ArrayViewD<'g, T>>,
    ) -> Result<Option<ArrayView3<'g, T>>, Error> {
        with_axes(question, gradient)
    }
}
impl OneUpstream for Vectors {
    fn from_tensor<'g, T: Real>(
        question: &str,
        gradient: Option<ArrayViewD<'g, T>>,
    ) -> Result<Option<ArrayView4<'g, T>>, Error> {
        with_axes(question, gradient)
    }
}
impl OneUpstream for Nothing {
    fn from_tensor<'g, T: Real>(
        question: &str,
        gradient: Option<ArrayViewD<'g, T>>,
    ) -> Result<(), Error> {
        match gradient {
            None => Ok(()),
            Some(_) => Err(Error::NotAnswerable {
                question: format!("grad.{question}"),
                why: format!("`{question}` is not differentiable"),
                instead: "Leave its gradient out.".into(),
            }),
        }
    }
}

/// Gradient in an answer of the upstream type `U`, as it can be given: an array, a view, `None`
/// for none; `()` for answers that are not differentiable; tuples of these for several questions.
pub trait IntoUpstream<U> {
    /// The gradient.
    fn into_upstream(self) -> U;
}

impl IntoUpstream<()> for () {
    fn into_upstream(self) {}
}

impl<'g, T, D: Dimension> IntoUpstream<Option<ArrayView<'g, T, D>>> for ArrayView<'g, T, D> {
    fn into_upstream(self) -> Option<ArrayView<'g, T, D>> {
        Some(self)
    }
}

impl<'g, T, D: Dimension> IntoUpstream<Option<ArrayView<'g, T, D>>> for &'g Array<T, D> {
    fn into_upstream(self) -> Option<ArrayView<'g, T, D>> {
        Some(self.view())
    }
}

impl<'g, T, D: Dimension> IntoUpstream<Option<ArrayView<'g, T, D>>>
    for Option<ArrayView<'g, T, D>>
{
    fn into_upstream(self) -> Self {
        self
    }
}

macro_rules! several {
    ($($given:ident $wanted:ident $index:tt),+) => {
        impl<$($given: Upstream),+> Upstream for ($($given,)+) {
            type Of<'g, Format: Real> = ($($given::Of<'g, Format>,)+);
        }

        impl<$($given: IntoUpstream<$wanted>, $wanted),+> IntoUpstream<($($wanted,)+)>
            for ($($given,)+)
        {
            fn into_upstream(self) -> ($($wanted,)+) {
                ($(self.$index.into_upstream(),)+)
            }
        }
    };
}
several!(A Z 0);
several!(A Z 0, B Y 1);
several!(A Z 0, B Y 1, C X 2);
several!(A Z 0, B Y 1, C X 2, D W 3);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7, I R 8);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7, I R 8, J Q 9);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7, I R 8, J Q 9, K P 10);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7, I R 8, J Q 9, K P 10, L O 11);
several!(A Z 0, B Y 1, C X 2, D W 3, E V 4, F U 5, G T 6, H S 7, I R 8, J Q 9, K P 10, L O 11, M N 12);

impl<'g, T> IntoUpstream<Self> for Vec<Option<ArrayViewD<'g, T>>> {
    fn into_upstream(self) -> Self {
        self
    }
}
