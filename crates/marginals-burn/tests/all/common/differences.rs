//! Gradients of whole modules against finite differences.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;

/// The entries, in row-major order.
pub fn f64s<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_into_vec().expect("f64")
}

/// Every parameter in f64, a leaf as before.
pub struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let learned = tensor.is_require_grad();
        let tensor = tensor.cast(DType::F64).detach().set_require_grad(learned);
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Moves parameter number `at` along a direction.
struct Move {
    at: usize,
    step: f64,
    seen: usize,
    random: Random,
}

impl ModuleMapper for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let own = self.seen == self.at;
        self.seen += 1;
        if !own {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let direction = TensorData::new(self.random.normals(shape.iter().product()), shape);
        let direction: Tensor<D> = Tensor::from_data(direction, (&tensor.device(), tensor.dtype()));
        Param::from_mapped_value(id, tensor.detach() + direction * self.step, mapper)
    }
}

/// Gradients along the same directions, one for each parameter.
struct Along<'a> {
    gradients: &'a burn::tensor::Gradients,
    found: Vec<Option<f64>>,
}

impl ModuleVisitor for Along<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let direction = Random::new(31).normals(param.val().dims().iter().product());
        self.found.push(
            param
                .val()
                .grad(self.gradients)
                .map(|gradient| f64s(gradient).iter().zip(direction).map(|(g, d)| g * d).sum()),
        );
    }
}

/// The gradient of a functional of a module in f64, in every parameter, by finite differences.
#[track_caller]
pub fn check<M: Module>(module: M, loss: impl Fn(&M) -> Tensor<1>) {
    let module = module.map(&mut Double);
    let gradients = loss(&module).backward();
    let mut along = Along { gradients: &gradients, found: Vec::new() };
    module.visit(&mut along);
    assert!(!along.found.is_empty(), "a module without parameters");
    for (at, found) in along.found.iter().enumerate() {
        let expected = gradient(&[1.0], |t| {
            let mut moved =
                Move { at, step: 0.05 * (t[0] - 1.0), seen: 0, random: Random::new(31) };
            f64s(loss(&module.clone().map(&mut moved)))[0]
        })[0];
        let found = 0.05 * found.unwrap_or(0.0);
        let scale = expected.value.abs().max(1e-2);
        assert!(
            (found - expected.value).abs() <= 1e-6 * scale,
            "parameter {at}: {found} and {expected:?}"
        );
    }
}

/// Numbers to start from, in f64.
pub fn nodes(shape: [usize; 3], device: &Device) -> Tensor<3> {
    let values = Random::new(3).normals(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F64))
}

/// A number that depends on every entry, each in its own way.
pub fn functional<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let weights = Random::new(9).normals(x.dims().iter().product());
    let shape = x.dims();
    let weights: Tensor<D> =
        Tensor::from_data(TensorData::new(weights, shape), (&x.device(), x.dtype()));
    (x * weights).sum()
}
