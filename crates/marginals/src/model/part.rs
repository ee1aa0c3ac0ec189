//! Parts of a model, as they describe themselves.
//!
//! Model files, checks, gradients, learning and `marginals explain` all read it here, so that a part
//! is one file and a line where it is listed.

mod list;

pub use list::{Description, List};
pub(crate) use list::{one_or_many, parts, read, write};

use std::fmt;

use ndarray::ArrayD;

pub use super::numbers::{Absent, Domain, Values};
pub use super::tensors::{Inputs, Tensors};

use crate::gradient::number_repeats;
use crate::{Error, Parameter, Real, Shape};

/// A part of a model that files name. The type is what stands in the file.
pub trait Part: Sized + 'static {
    /// Name in files, messages and gradients.
    const NAME: &'static str;
    /// Definition, in symbols.
    const MEANING: &'static str;
    /// An entry of its section, in TOML.
    const EXAMPLE: &'static str;
    /// Numbers that it holds: they may be learned, or be given as tensors of the same name.
    const NUMBERS: &'static [Number<Self>] = &[];
    /// Tensors that it reads from the input.
    const TENSORS: &'static [NamedTensor] = &[];

    /// Fills in numbers that the file leaves open and the sizes say.
    fn settle(&mut self, _sizes: &Sizes) {}

    /// Those of [`TENSORS`](Part::TENSORS) that are weights: a network learns them where no input
    /// gives them.
    fn weights(&self, _sizes: &Sizes) -> Vec<Weight> {
        Vec::new()
    }

    /// Parts within this one.
    fn inner(&self) -> Vec<&dyn AnyPart> {
        Vec::new()
    }

    /// Parts within this one, to be changed.
    fn inner_mut(&mut self) -> Vec<&mut dyn AnyPart> {
        Vec::new()
    }

    /// Refuses numbers of a wrong count or outside their domain.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Value`], naming the number.
    fn check_numbers(&self, shape: &Shape) -> Result<(), Error> {
        Self::NUMBERS.iter().filter(|number| (number.of)(self).is_there()).try_for_each(|number| {
            let values = (number.of)(self);
            values.check(number.name, shape)?;
            number.domain.check(number.name, values.values())
        })
    }

    /// Its numbers as parameters, in order.
    fn learnable(&self) -> Vec<Parameter> {
        let parameter =
            |number: &Number<Self>| Parameter::new(number.name, &(number.of)(self).shape());
        let there = |number: &&Number<Self>| (number.of)(self).is_there();
        Self::NUMBERS.iter().filter(there).map(parameter).collect()
    }
}

/// A number, or several, that a part holds: declared once, by [`number!`](crate::number).
pub struct Number<P> {
    /// Name, as in gradients: `geometric.rho`.
    pub name: &'static str,
    /// Where it may lie.
    pub domain: Domain,
    /// The field it is.
    pub of: fn(&P) -> &dyn Values,
    /// The field, to be changed.
    pub of_mut: fn(&mut P) -> &mut dyn Values,
}

/// Declares a [`Number`](crate::part::Number) of a part: its name, its domain and its field.
///
/// ```
/// # use marginals::{PerHead, part::{Domain, Number}};
/// struct Laplace { scale: PerHead }
/// const NUMBERS: &[Number<Laplace>] = &[marginals::number!("laplace.scale", Positive, scale)];
/// ```
#[macro_export]
macro_rules! number {
    ($name:literal, $domain:ident, $field:ident) => {
        $crate::part::Number {
            name: $name,
            domain: $crate::part::Domain::$domain,
            of: |part| &part.$field,
            of_mut: |part| &mut part.$field,
        }
    };
}

/// Declares the field, a list's part, that stands within a part.
macro_rules! within {
    ($field:ident) => {
        fn inner(&self) -> Vec<&dyn $crate::model::part::AnyPart> {
            vec![$crate::model::part::List::part(&self.$field)]
        }
        fn inner_mut(&mut self) -> Vec<&mut dyn $crate::model::part::AnyPart> {
            vec![$crate::model::part::List::part_mut(&mut self.$field)]
        }
    };
}
pub(crate) use within;

/// Sizes that parts are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Query heads.
    pub heads: usize,
    /// Key heads, a divisor of the query heads.
    pub key_heads: usize,
    /// Numbers per query and key.
    pub width: usize,
}

/// Kind of the entries of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Real numbers.
    Real,
    /// Real numbers of at most 0, −∞ among them: logs of what is at most 1.
    NonPositive,
    /// Whole numbers.
    Whole,
}

/// A tensor that a part reads from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Its name there.
    pub name: &'static str,
    /// Kind of its entries.
    pub entries: Entries,
    /// Its shape, in the symbols of the documentation and the part's settings: `[B, H, N, M]`.
    pub shape: &'static str,
    /// Meaning of its entries.
    pub meaning: &'static str,
    /// When it is read; always where this is empty.
    pub when: &'static str,
}

impl NamedTensor {
    /// A tensor of real numbers that has to be there.
    pub const fn real(name: &'static str, shape: &'static str, meaning: &'static str) -> Self {
        Self { name, entries: Entries::Real, shape, meaning, when: "" }
    }

    /// A tensor of real numbers of at most 0 that has to be there.
    pub const fn non_positive(
        name: &'static str,
        shape: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { entries: Entries::NonPositive, ..Self::real(name, shape, meaning) }
    }

    /// A tensor of whole numbers that has to be there.
    pub const fn whole(name: &'static str, shape: &'static str, meaning: &'static str) -> Self {
        Self { entries: Entries::Whole, ..Self::real(name, shape, meaning) }
    }

    /// One that is only read in some cases, such as `if present`.
    pub const fn only(self, when: &'static str) -> Self {
        Self { when, ..self }
    }

    /// Whether it has to be there.
    pub const fn is_required(&self) -> bool {
        self.when.is_empty()
    }
}

impl fmt::Display for NamedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.shape)?;
        if self.is_required() { Ok(()) } else { write!(f, ", {}", self.when) }
    }
}

/// A tensor of weights that a network learns.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bound of the uniform distribution that its entries start from; 0 starts them all at 0.
    pub bound: f64,
}

/// Where the tensors of a part are before it is built: in the input, by the names that the part
/// declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named;

/// The numbers of a part or of a whole model under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Its name, as in gradients: `geometric.rho`, and `geometric.rho.2` the second time.
    pub name: String,
    /// The numbers that the file gives.
    pub values: ArrayD<f64>,
    /// Where they may lie.
    pub domain: Domain,
}

/// A [`Part`] whose type is not known.
pub trait AnyPart {
    /// [`Part::NAME`].
    fn name(&self) -> &'static str;

    /// Calls `f` with this part and then with those within.
    fn visit<'p>(&'p self, f: &mut dyn FnMut(&'p dyn AnyPart));

    /// [`Part::TENSORS`], of this part alone.
    fn tensors(&self) -> &'static [NamedTensor];

    /// [`Part::weights`], of this part alone.
    fn weights(&self, sizes: &Sizes) -> Vec<Weight>;

    /// Numbers of this part and those within, in order; their names as declared.
    fn numbers(&self) -> Vec<(&'static str, Domain, &dyn Values)>;

    /// [`Part::settle`], of this part and those within.
    fn settle(&mut self, sizes: &Sizes);

    /// Calls `f` with the same numbers, to be changed.
    ///
    /// # Errors
    /// Those of `f`.
    fn change_numbers(
        &mut self,
        f: &mut dyn FnMut(&mut dyn Values) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

impl<P: Part> AnyPart for P {
    fn name(&self) -> &'static str {
        P::NAME
    }
    fn visit<'p>(&'p self, f: &mut dyn FnMut(&'p dyn AnyPart)) {
        f(self);
        self.inner().into_iter().for_each(|part| part.visit(f));
    }
    fn tensors(&self) -> &'static [NamedTensor] {
        P::TENSORS
    }
    fn weights(&self, sizes: &Sizes) -> Vec<Weight> {
        Part::weights(self, sizes)
    }
    fn numbers(&self) -> Vec<(&'static str, Domain, &dyn Values)> {
        let own = P::NUMBERS.iter().map(|number| (number.name, number.domain, (number.of)(self)));
        let own = own.filter(|(_, _, values)| values.is_there());
        own.chain(self.inner().into_iter().flat_map(|part| part.numbers())).collect()
    }
    fn settle(&mut self, sizes: &Sizes) {
        Part::settle(self, sizes);
        self.inner_mut().into_iter().for_each(|part| part.settle(sizes));
    }
    fn change_numbers(
        &mut self,
        f: &mut dyn FnMut(&mut dyn Values) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for number in P::NUMBERS {
            if (number.of)(self).is_there() {
                f((number.of_mut)(self))?;
            }
        }
        self.inner_mut().into_iter().try_for_each(|part| part.change_numbers(f))
    }
}

/// The numbers of the parts of a model, repeated names told apart as in gradients.
pub fn numbers(parts: &[&dyn AnyPart]) -> Vec<Numbers> {
    let own = |(name, domain, values): (&str, Domain, &dyn Values)| Numbers {
        name: name.to_owned(),
        values: ArrayD::from_shape_vec(values.shape(), values.values().to_vec())
            .expect("as many numbers as the shape says"),
        domain,
    };
    let mut all: Vec<Numbers> = parts.iter().flat_map(|part| part.numbers()).map(own).collect();
    number_repeats(all.iter_mut().map(|numbers| &mut numbers.name).collect());
    all
}

/// Fills in what the sizes say, and puts the tensors that are called as numbers in their place.
///
/// # Errors
/// [`Error::Shape`], where a tensor has too many axes.
pub fn settle<T: Real>(
    mut parts: Vec<&mut dyn AnyPart>,
    sizes: &Sizes,
    tensors: &Tensors<'_, T>,
) -> Result<(), Error> {
    parts.iter_mut().for_each(|part| part.settle(sizes));
    let all: Vec<&dyn AnyPart> = parts.iter().map(|part| &**part).collect();
    let mut names = numbers(&all).into_iter().map(|numbers| numbers.name);
    for part in parts {
        part.change_numbers(&mut |values| {
            let name = names.next().expect("a name for every number");
            match tensors.real.get(&name) {
                Some(tensor) => values.replace(&name, tensor.mapv(T::f64)),
                None => Ok(()),
            }
        })?;
    }
    Ok(())
}
