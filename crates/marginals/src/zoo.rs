//! The zoo: named mechanisms as compositions of a model, an inference and an update.
//!
//! Every mechanism describes itself as a [`Mechanism`]; [`MECHANISMS`] lists them all, and is what
//! `marginals explain` and the capability table are made from. To add one, see CONTRIBUTING.md.

pub mod block_slots;
pub mod perceiver;
pub mod slots;

/// What a mechanism is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// The name it is asked for by, in kebab case.
    pub name: &'static str,
    /// What it is, in a line.
    pub title: &'static str,
    /// Which sets of edges are possible.
    pub structure: &'static str,
    /// What is known about edges beforehand.
    pub prior: &'static str,
    /// How content makes edges likely.
    pub potential: &'static str,
    /// What the edges are used for.
    pub value: &'static str,
    /// How the posterior is found.
    pub inference: &'static str,
    /// How latent nodes move, where there are any.
    pub update: Option<&'static str>,
    /// Its equations, one a line.
    pub equations: &'static [&'static str],
    /// Papers, with the equations or algorithms taken from them.
    pub sources: &'static [&'static str],
    /// Where it lives: a path of this library or of `marginals_burn`.
    pub path: &'static str,
}

/// Every mechanism.
pub const MECHANISMS: &[&Mechanism] =
    &[&block_slots::MECHANISM, &perceiver::MECHANISM, &slots::MECHANISM];

/// The mechanism called `name`.
pub fn mechanism(name: &str) -> Result<&'static Mechanism, crate::Error> {
    let known: Vec<&'static str> = MECHANISMS.iter().map(|mechanism| mechanism.name).collect();
    let found = MECHANISMS.iter().find(|mechanism| mechanism.name == name).copied();
    found.ok_or_else(|| crate::Error::unknown("mechanism", name, &known))
}
