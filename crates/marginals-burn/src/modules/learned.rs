//! Parameters of a model that are learned with the rest of a network.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use marginals::Error;
use marginals::spec::{Domain, ModelSpec, Numbers, Sizes, Weight};

use crate::ops::Parameters;
use crate::tensors::into_values;

/// Parameters of a model's parts in coordinates without bounds, which is where an optimiser moves:
/// x itself for a real number, log x for a positive one, log(x / (1 − x)) for one in (0, 1).
///
/// Learned are the numbers of the model file that were asked for, one for each head (a single number
/// is where all of them start), and the weights that the model's parts name: the table of relative
/// buckets, say, or the maps of an additive potential.
#[derive(Module, Debug)]
pub struct Learned {
    /// The coordinates.
    pub free: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    places: Vec<LearnedPlace>,
}

/// Description of one learned parameter.
#[derive(Clone, Debug)]
struct LearnedPlace {
    name: String,
    shape: Vec<usize>,
    domain: Domain,
}

impl Learned {
    /// The parameters called `names` of a model with `heads` query heads and `key_heads` key heads of
    /// `width` numbers.
    ///
    /// # Errors
    /// [`Error::Value`] where a name is none of the model's numbers, or its number lies on the edge of
    /// its range, which an optimiser cannot leave.
    pub fn of(
        spec: &ModelSpec,
        names: &[String],
        [heads, key_heads, width]: [usize; 3],
        device: &Device,
    ) -> Result<Self, Error> {
        let numbers = spec.numbers(heads, width);
        let mut learned = Self { free: Vec::new(), places: Vec::new() };
        for name in names {
            let Some(number) = numbers.iter().find(|number| number.name == *name) else {
                let known: Vec<&str> = numbers.iter().map(|n| n.name.as_str()).collect();
                return Err(Error::unknown("parameter to learn", name, &known));
            };
            learned.add_number(number, heads, device)?;
        }
        for Weight { name, shape, bound } in spec.weights(&Sizes { heads, key_heads, width }) {
            let count: usize = shape.iter().product();
            let start = match bound == 0.0 {
                true => Tensor::zeros([count], device),
                false => {
                    let spread = burn::tensor::Distribution::Uniform(-bound, bound);
                    Tensor::random([count], spread, device)
                }
            };
            learned.add(name, shape, Domain::Real, start);
        }
        Ok(learned)
    }

    fn add(&mut self, name: &str, shape: Vec<usize>, domain: Domain, free: Tensor<1>) {
        self.free.push(Param::from_tensor(free));
        self.places.push(LearnedPlace { name: name.to_owned(), shape, domain });
    }

    fn add_number(&mut self, number: &Numbers, heads: usize, device: &Device) -> Result<(), Error> {
        let mut values: Vec<f64> = number.values.iter().copied().collect();
        let mut shape = number.values.shape().to_vec();
        if shape == [1] {
            values = vec![values[0]; heads];
            shape = vec![heads];
        }
        let free = values.iter().map(|&x| number.domain.unbounded(x));
        let free: Vec<f32> = free.map(|x| x as f32).collect();
        if let Some(at) = free.iter().position(|x| !x.is_finite()) {
            return Err(Error::value(
                number.name.clone(),
                "a number inside its range, where it can be learned from",
                values[at],
            ));
        }
        let count = free.len();
        let free = Tensor::from_data(TensorData::new(free, [count]), device);
        self.add(&number.name, shape, number.domain, free);
        Ok(())
    }

    fn each(&self) -> impl Iterator<Item = (&LearnedPlace, Tensor<1>)> {
        self.places.iter().zip(&self.free).map(|(place, free)| {
            let free = free.val();
            let values = match place.domain {
                Domain::Real => free,
                Domain::Positive | Domain::NotNegative => free.exp(),
                Domain::UnitInterval => activation::sigmoid(free),
            };
            (place, values)
        })
    }

    /// The parameters themselves, as the posterior takes them.
    pub fn parameters(&self) -> Parameters {
        self.each().fold(Parameters::none(), |parameters, (place, values)| {
            parameters.with_shape(&place.name, values, place.shape.clone())
        })
    }

    /// Their names, values and shapes.
    pub fn values(&self) -> impl Iterator<Item = (String, Vec<f32>, Vec<usize>)> {
        self.each()
            .map(|(place, values)| (place.name.clone(), into_values(values), place.shape.clone()))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }
}
