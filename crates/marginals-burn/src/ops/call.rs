//! One call of a posterior: what is asked of which nodes, forwards and backwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use marginals::infer::{Finding, Gradients};
use marginals::question::{Asked, Asking, Named, Tensor};
use marginals::spec::Tensors;
use marginals::zoo::slots::Smoothing;
use marginals::{Error, Pass, Posterior};
use ndarray::{
    Array3, Array4, ArrayD, ArrayView, ArrayView4, ArrayViewD, CowArray, Ix3, Ix4, IxDyn,
};

use super::answers::Place;
use super::built::{Built, Source};
use super::flex::{Number, Primitive, flat, numbers, readable, row, tensor, vector, view};
use super::parameters::BIAS;
use super::tape::{Forward, Operation};

/// Which tensor is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// None.
    Absent,
    /// One of its own.
    Apart,
    /// The keys.
    Keys,
}

/// Settings of one call, beside its tensors, which are the queries, the keys, the values, the bias and the
/// other parameters in a row; those that are absent have no entries.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub source: Source,
    pub questions: Arc<[Named]>,
    pub values: Values,
    /// ε that is added to the marginals before the mean is taken under them.
    pub smoothing: f64,
    /// Shape of the bias, where there is one.
    pub bias: Option<Vec<usize>>,
    /// Names and shapes of the packed parameters.
    pub packed: Arc<[(String, Vec<usize>)]>,
}

/// State that the backward needs of the forward.
#[derive(Clone)]
pub(super) struct Kept<T: Number> {
    built: Arc<Built<T>>,
    finding: Finding<T>,
    places: Arc<[Place]>,
}

impl Operation<5> for Call {
    type Kept<T: Number> = Kept<T>;
    type Report = Arc<[Place]>;

    fn forward<T: Number>(
        &self,
        inputs: &[Primitive; 5],
    ) -> Result<Forward<Kept<T>, Arc<[Place]>>, Error> {
        let inputs = Inputs::<T>::read(inputs);
        let tensors = self.tensors(&inputs);
        let built = Arc::new(self.build(&inputs, &tensors)?);
        let (answers, finding) = self.with(&built, &inputs, &tensors, |posterior, asked| {
            let pass = posterior.pass(asked)?;
            Ok((pass.answer()?, pass.into_finding()))
        })?;
        let (output, places) = self.pack(&inputs, answers)?;
        let kept = Kept { built, finding, places: places.clone() };
        Ok(Forward { output, kept, report: places })
    }

    fn forward_alone<T: Number>(
        &self,
        inputs: &[Primitive; 5],
    ) -> Result<(Primitive, Arc<[Place]>), Error> {
        let inputs = Inputs::<T>::read(inputs);
        let tensors = self.tensors(&inputs);
        let built = self.build(&inputs, &tensors)?;
        let answers =
            self.with(&built, &inputs, &tensors, |posterior, asked| posterior.ask(asked))?;
        self.pack(&inputs, answers)
    }

    fn backward<T: Number>(
        &self,
        inputs: &[Primitive; 5],
        kept: Kept<T>,
        upstream: Primitive,
    ) -> [Option<Primitive>; 5] {
        let Kept { built, finding, places } = kept;
        let inputs = Inputs::<T>::read(inputs);
        let upstream = match places.len() {
            1 => readable::<T>(&upstream),
            _ => upstream.to_contiguous(),
        };
        let gradients = self
            .differentiate(&built, finding, &inputs, self.upstream(&places, &upstream))
            .expect("what the forward accepted, the backward differentiates");
        self.unpack(gradients)
    }
}

/// The tensors, as the engine reads them.
struct Inputs<T> {
    q: Primitive,
    k: Primitive,
    v: Primitive,
    bias: Primitive,
    packed: Primitive,
    format: std::marker::PhantomData<T>,
}

impl<T: Number> Inputs<T> {
    fn read(inputs: &[Primitive; 5]) -> Self {
        let [q, k, v, bias, packed] = inputs.each_ref().map(readable::<T>);
        Self { q, k, v, bias, packed, format: std::marker::PhantomData }
    }

    fn q(&self) -> ArrayView4<'_, T> {
        view(&self.q)
    }

    fn k(&self) -> ArrayView4<'_, T> {
        view(&self.k)
    }

    fn values(&self, values: Values) -> Option<ArrayView4<'_, T>> {
        match values {
            Values::Absent => None,
            Values::Apart => Some(view(&self.v)),
            Values::Keys => Some(self.k()),
        }
    }

    /// The bias with leading axes of length 1 added up to four.
    fn bias(&self, shape: &[usize]) -> Result<ArrayView4<'_, T>, Error> {
        let mut four = [1; 4];
        match 4usize.checked_sub(shape.len()) {
            Some(missing) => four[missing..].copy_from_slice(shape),
            None => {
                return Err(Error::shape(
                    BIAS,
                    "at most four axes, [B, H, N, M]",
                    shape,
                    "Axes are aligned from the last.",
                ));
            }
        }
        let entries = numbers::<T>(&self.bias);
        Ok(ArrayView4::from_shape(four, entries).expect("as many entries as its shape says"))
    }
}

const MEAN: &str = "mean";
const QUERY_MASS: &str = "query-mass";

impl Call {
    /// The small tensors that the model and the questions name, where they lie.
    fn tensors<'t, T: Number>(&self, inputs: &'t Inputs<T>) -> Tensors<'t, T> {
        let mut rest = numbers::<T>(&inputs.packed);
        let mut real = BTreeMap::new();
        for (name, shape) in self.packed.iter() {
            let (own, after) = rest.split_at(shape.iter().product());
            let array = ArrayView::from_shape(IxDyn(shape), own).expect("as many as were packed");
            real.insert(name.clone(), CowArray::from(array));
            rest = after;
        }
        let integer = match &self.source {
            Source::Spec(blueprint) => blueprint.integer.clone(),
            Source::Typed(_) => BTreeMap::new(),
        };
        Tensors { real, integer }
    }

    fn build<T: Number>(
        &self,
        inputs: &Inputs<T>,
        tensors: &Tensors<'_, T>,
    ) -> Result<Built<T>, Error> {
        let (_, heads, _, width) = inputs.q().dim();
        Built::new(&self.source, [heads, width], tensors)
    }

    /// The questions that a pass is asked: with a smoothed mean the mass too, which it is made of.
    fn asked<'v, T: Number>(
        &self,
        inputs: &'v Inputs<T>,
        tensors: &'v Tensors<'v, T>,
    ) -> Result<Asked<'v, T>, Error> {
        let v = inputs.values(self.values);
        let asking = Asking { v, tensors, argument: None, seed: 0 };
        if !self.is_smoothed() || self.place_of(QUERY_MASS).is_some() {
            return Asked::new(&self.questions, asking);
        }
        let mut questions = self.questions.to_vec();
        questions.push(Named::parse(QUERY_MASS)?);
        Asked::new(&questions, asking)
    }

    /// Calls `f` with the posterior and what it is asked.
    fn with<T: Number, R>(
        &self,
        built: &Built<T>,
        inputs: &Inputs<T>,
        tensors: &Tensors<'_, T>,
        f: impl for<'a, 'v> FnOnce(&Posterior<'a, T>, Asked<'v, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let bias = self.bias.as_deref().map(|shape| inputs.bias(shape)).transpose()?;
        let asked = self.asked(inputs, tensors)?;
        built.with_posterior(inputs.q(), inputs.k(), bias, |posterior| f(posterior, asked))
    }

    /// Place of a question in the order of asking.
    fn place_of(&self, name: &str) -> Option<usize> {
        self.questions.iter().position(|named| named.entry.name == name)
    }

    /// That of the mass, which is asked last where nobody asked for it.
    fn place_of_mass(&self) -> usize {
        self.place_of(QUERY_MASS).unwrap_or(self.questions.len())
    }

    /// Whether the mean is taken under marginals that have had ε added.
    fn is_smoothed(&self) -> bool {
        self.smoothing > 0.0 && self.place_of(MEAN).is_some()
    }

    fn smoothing<T: Number>(&self, inputs: &Inputs<T>) -> Smoothing<T> {
        let v = inputs.values(self.values).expect("a mean has values");
        Smoothing::new(T::of(self.smoothing), &v)
    }

    /// The answers as one tensor, and where each lies: one in its own shape, several in a row, the
    /// largest first, which grows into that row instead of being copied there.
    fn pack<T: Number>(
        &self,
        inputs: &Inputs<T>,
        mut answers: Vec<(String, Tensor<T>)>,
    ) -> Result<(Primitive, Arc<[Place]>), Error> {
        if self.is_smoothed() {
            let place = self.place_of(MEAN).expect("it is smoothed");
            let mass = three(&answers[self.place_of_mass()].1)?;
            let mut mean = four(&answers[place].1)?;
            self.smoothing(inputs).apply(&mass, &mut mean);
            answers[place].1 = Tensor::Real(mean.into_dyn());
            answers.truncate(self.questions.len());
        }
        let mut named = Vec::with_capacity(answers.len());
        for (name, answer) in answers {
            named.push((name.clone(), real(&name, answer)?));
        }
        let mut order: Vec<usize> = (0..named.len()).collect();
        order.sort_by_key(|&question| std::cmp::Reverse(named[question].1.len()));
        let mut places = Vec::with_capacity(order.len());
        let mut packed = Vec::new();
        for question in order {
            let (name, answer) = std::mem::take(&mut named[question]);
            let shape = answer.shape().to_vec();
            places.push(Place { name, question, start: packed.len(), shape });
            let answer = flat(answer);
            match packed.is_empty() {
                true => packed = answer,
                false => packed.extend(answer),
            }
        }
        let output = match places.as_slice() {
            [one] => vector(packed, one.shape.clone()),
            _ => row(packed),
        };
        Ok((output, places.into()))
    }

    /// The gradient in the answer to each question of the pass, in the order of asking; `None` where it
    /// is 0 everywhere, so that nobody made anything of the answer.
    fn upstream<'g, T: Number>(
        &self,
        places: &[Place],
        upstream: &'g Primitive,
    ) -> Vec<Option<ArrayViewD<'g, T>>> {
        let mass_alone = self.is_smoothed() && self.place_of(QUERY_MASS).is_none();
        let mut all = vec![None; places.len() + usize::from(mass_alone)];
        for place in places {
            let gradient = match places.len() {
                1 => view::<T, IxDyn>(upstream),
                _ => {
                    let entries = &numbers::<T>(upstream)[place.start..place.start + place.len()];
                    ArrayViewD::from_shape(place.shape.as_slice(), entries).expect("its own shape")
                }
            };
            let is_used = gradient.iter().any(|g| *g != T::zero());
            all[place.question] = is_used.then_some(gradient);
        }
        all
    }

    fn differentiate<T: Number>(
        &self,
        built: &Built<T>,
        finding: Finding<T>,
        inputs: &Inputs<T>,
        upstream: Vec<Option<ArrayViewD<'_, T>>>,
    ) -> Result<Gradients<T>, Error> {
        let tensors = self.tensors(inputs);
        self.with(built, inputs, &tensors, |posterior, asked| {
            let mut upstream = upstream;
            let pass = posterior.complete(asked, finding)?;
            let mean = self.place_of(MEAN).filter(|_| self.is_smoothed());
            let Some((place, gradient)) = mean.and_then(|p| Some((p, upstream[p].take()?))) else {
                return self.gradients(&pass, upstream);
            };
            let answers = pass.answer()?;
            let mass_place = self.place_of_mass();
            let (mean, mass) = (four(&answers[place].1)?, three(&answers[mass_place].1)?);
            let gradient = gradient.into_dimensionality::<Ix4>().expect("the mean's shape");
            let mut through = self.smoothing(inputs).backward(&mass, &mean, gradient);
            if let Some(own) = &upstream[mass_place] {
                through.mass += &own.view().into_dimensionality::<Ix3>().expect("the mass's shape");
            }
            upstream[place] = Some(through.mean.view().into_dyn());
            upstream[mass_place] = Some(through.mass.view().into_dyn());
            let mut found = self.gradients(&pass, upstream)?;
            match found.values.first_mut().and_then(Option::as_mut) {
                Some(v) => through.add_to_values(v),
                None => through.add_to_values(&mut found.k),
            }
            Ok(found)
        })
    }

    fn gradients<'g, 'v, T: Number>(
        &self,
        pass: &'g Pass<'_, '_, 'v, T, Asked<'v, T>>,
        upstream: Vec<Option<ArrayViewD<'g, T>>>,
    ) -> Result<Gradients<T>, Error> {
        match self.values {
            Values::Keys => pass.backward_shared(upstream),
            Values::Apart | Values::Absent => pass.backward(upstream),
        }
    }

    /// Gradients in the inputs.
    fn unpack<T: Number>(&self, gradients: Gradients<T>) -> [Option<Primitive>; 5] {
        let Gradients { q, k, mut values, mut parameters } = gradients;
        let mut take = |name: &str, shape: &[usize]| {
            match parameters.iter().position(|parameter| parameter.name == name) {
                Some(index) => flat(parameters.swap_remove(index).gradient),
                // Nobody reads it.
                None => vec![T::zero(); shape.iter().product()],
            }
        };
        let bias = self.bias.as_ref().map(|shape| row(take(BIAS, shape)));
        let packed: Vec<T> =
            self.packed.iter().flat_map(|(name, shape)| take(name, shape)).collect();
        let v = values.first_mut().and_then(Option::take);
        [Some(tensor(q)), Some(tensor(k)), v.map(tensor), bias, Some(row(packed))]
    }
}

/// An answer's numbers.
fn real<T>(name: &str, answer: Tensor<T>) -> Result<ArrayD<T>, Error> {
    answer.real().ok_or_else(|| Error::NotAnswerable {
        question: name.into(),
        why: "its answer is no real numbers".into(),
        instead: "Ask it without a tape, of `marginals::Posterior`.".into(),
    })
}

fn three<T: Number>(mass: &Tensor<T>) -> Result<Array3<T>, Error> {
    let mass = real(QUERY_MASS, mass.clone())?;
    Ok(mass.into_dimensionality().expect("a mass for each query"))
}

fn four<T: Number>(mean: &Tensor<T>) -> Result<Array4<T>, Error> {
    let mean = real(MEAN, mean.clone())?;
    Ok(mean.into_dimensionality().expect("a vector for each query"))
}
