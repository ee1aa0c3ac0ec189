//! The zoo: named mechanisms as compositions of a model, an inference and an update.
//!
//! Every mechanism describes itself as a [`Mechanism`]; [`MECHANISMS`] lists them all, and is what
//! `marginals explain` and the capability table are made from. To add one, see CONTRIBUTING.md.

pub mod alibi;
pub mod attention_sink;
pub mod block_slots;
pub mod documents;
pub mod expanding;
pub mod graph_attention;
pub mod hard_attention;
pub mod hopfield;
pub mod k_means;
pub mod mixture;
pub mod multihop;
pub mod normalization_model;
pub mod perceiver;
pub mod predictive_coding;
pub mod relative_positions;
pub mod rotary;
pub mod sigmoid_attention;
pub mod sliding_window;
pub mod slots;
pub mod softcap;
pub mod softmax_attention;

/// Mechanism of the zoo: the model it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// The name it is asked for by, in kebab case.
    pub name: &'static str,
    /// Title, in a line.
    pub title: &'static str,
    /// Which sets of edges are possible.
    pub structure: &'static str,
    /// Prior over the edges.
    pub prior: &'static str,
    /// How content makes edges likely.
    pub potential: &'static str,
    /// Value: the quantity whose expectation is the output.
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
    /// A model file that reaches it with `marginals infer`.
    pub model: &'static str,
}

/// Every mechanism.
pub const MECHANISMS: &[&Mechanism] = &[
    &softmax_attention::MECHANISM,
    &alibi::MECHANISM,
    &relative_positions::MECHANISM,
    &sliding_window::MECHANISM,
    &documents::MECHANISM,
    &rotary::MECHANISM,
    &softcap::MECHANISM,
    &attention_sink::MECHANISM,
    &attention_sink::SOFTMAX_PLUS_ONE,
    &sigmoid_attention::MECHANISM,
    &graph_attention::MECHANISM,
    &graph_attention::MECHANISM_V2,
    &hard_attention::MECHANISM,
    &normalization_model::MECHANISM,
    &multihop::MECHANISM,
    &expanding::MECHANISM,
    &hopfield::MECHANISM,
    &mixture::MECHANISM,
    &k_means::MECHANISM,
    &slots::MECHANISM,
    &block_slots::MECHANISM,
    &perceiver::MECHANISM,
];

/// The mechanism called `name`.
pub fn mechanism(name: &str) -> Result<&'static Mechanism, crate::Error> {
    let known: Vec<&'static str> = MECHANISMS.iter().map(|mechanism| mechanism.name).collect();
    let found = MECHANISMS.iter().find(|mechanism| mechanism.name == name).copied();
    found.ok_or_else(|| crate::Error::unknown("mechanism", name, &known))
}
