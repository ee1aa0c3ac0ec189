//! Recorded answers of other libraries: safetensors files made by the scripts of `tools/reference`.

// Each test file uses some of these.
#![allow(dead_code)]

use marginals_testkit::compare::{Tolerance, assert_close};
use ndarray::{Array, ArrayBase, ArrayD, Data, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// The tensors `name.*` of a file.
pub struct Case<'a> {
    pub file: SafeTensors<'a>,
    pub name: &'static str,
}

impl<'a> Case<'a> {
    pub fn new(file: &'a [u8], name: &'static str) -> Self {
        Self { file: SafeTensors::deserialize(file).expect("the reference file"), name }
    }

    pub fn holds(&self, tensor: &str) -> bool {
        self.file.tensor(&format!("{}.{tensor}", self.name)).is_ok()
    }

    pub fn get<D: Dimension>(&self, tensor: &str) -> Array<f64, D> {
        self.read(tensor, Dtype::F64, f64::from_le_bytes)
    }

    pub fn integers<D: Dimension>(&self, tensor: &str) -> Array<i64, D> {
        self.read(tensor, Dtype::I64, i64::from_le_bytes)
    }

    fn read<R, D: Dimension>(
        &self,
        tensor: &str,
        dtype: Dtype,
        number: impl Fn([u8; 8]) -> R,
    ) -> Array<R, D> {
        let name = format!("{}.{tensor}", self.name);
        let view = self.file.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), dtype, "{name}");
        let (bytes, _) = view.data().as_chunks::<8>();
        let numbers = bytes.iter().map(|b| number(*b)).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), numbers)
            .expect("as many numbers as the shape says")
            .into_dimensionality()
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// `actual` is the recorded tensor, up to 1e-9.
    pub fn close<D: Dimension>(&self, tensor: &str, actual: &ArrayBase<impl Data<Elem = f64>, D>) {
        let expected: ArrayD<f64> = self.get(tensor);
        let actual = actual.view().into_dyn();
        assert_eq!(actual.shape(), expected.shape(), "{}.{tensor}", self.name);
        let name = format!("{}.{tensor}", self.name);
        assert_close(name, actual.iter(), &expected, Tolerance::mixed(1e-9));
    }
}
