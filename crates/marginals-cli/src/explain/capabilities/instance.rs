//! The small instance that capabilities are tried on.

use marginals::part::Entries;
use marginals::spec::{self, MechanismSpec, ModelSpec, Tensors};
use marginals::{Error, Posterior};
use ndarray::{ArrayD, Ix4, IxDyn};

const HEADS: usize = 2;
const NODES: usize = 4;
const WIDTH: usize = 2;
/// Of the graph.
const EDGES: usize = 2 * NODES;

/// Tensors under every name a part may read.
pub struct Instance(Tensors<'static, f64>);

/// Weights of the smallest slot attention: two numbers per node, without GRU.
const SLOTS: &[(&str, &[usize])] = &[
    ("slots_mu", &[1, 1, 2]),
    ("slots_logsigma", &[1, 1, 2]),
    ("norm_input.weight", &[2]),
    ("norm_input.bias", &[2]),
    ("norm_slots.weight", &[2]),
    ("norm_slots.bias", &[2]),
    ("to_q.weight", &[2, 2]),
    ("to_k.weight", &[2, 2]),
    ("to_v.weight", &[2, 2]),
];

/// Those of the smallest block-slot attention: one block.
const BLOCK_SLOTS: &[(&str, &[usize])] = &[
    ("slot_mu", &[1, 1, 2]),
    ("slot_log_sigma", &[1, 1, 2]),
    ("norm_inputs.weight", &[2]),
    ("norm_inputs.bias", &[2]),
    ("norm_slots.weight", &[2]),
    ("norm_slots.bias", &[2]),
    ("project_q.weight", &[2, 2]),
    ("project_k.weight", &[2, 2]),
    ("project_v.weight", &[2, 2]),
    ("gru.gru.weight_ih", &[6, 2]),
    ("gru.gru.weight_hh", &[6, 2]),
    ("gru.gru.bias_ih", &[6]),
    ("gru.gru.bias_hh", &[6]),
    ("mlp.0.w", &[1, 2, 2]),
    ("mlp.0.b", &[1, 2]),
    ("mlp.2.w", &[1, 2, 2]),
    ("mlp.2.b", &[1, 2]),
    ("prototype_memory.mem_params", &[1, 2, 1, 2]),
    ("prototype_memory.mem_proj.0.weight", &[8, 2]),
    ("prototype_memory.mem_proj.0.bias", &[8]),
    ("prototype_memory.mem_proj.2.weight", &[8, 8]),
    ("prototype_memory.mem_proj.2.bias", &[8]),
    ("prototype_memory.mem_proj.4.weight", &[8, 8]),
    ("prototype_memory.mem_proj.4.bias", &[8]),
    ("prototype_memory.mem_proj.6.weight", &[2, 8]),
    ("prototype_memory.mem_proj.6.bias", &[2]),
];

/// Those of the smallest Perceiver: one look, without self-attention.
const PERCEIVER: &[(&str, &[usize])] = &[
    ("latents", &[2, 2]),
    ("layers.0.cross_attn.norm.weight", &[2]),
    ("layers.0.cross_attn.norm.bias", &[2]),
    ("layers.0.cross_attn.norm_context.weight", &[2]),
    ("layers.0.cross_attn.norm_context.bias", &[2]),
    ("layers.0.cross_attn.fn.to_q.weight", &[2, 2]),
    ("layers.0.cross_attn.fn.to_kv.weight", &[4, 2]),
    ("layers.0.cross_attn.fn.to_out.weight", &[2, 2]),
    ("layers.0.cross_attn.fn.to_out.bias", &[2]),
    ("layers.0.cross_ff.norm.weight", &[2]),
    ("layers.0.cross_ff.norm.bias", &[2]),
    ("layers.0.cross_ff.fn.net.0.weight", &[16, 2]),
    ("layers.0.cross_ff.fn.net.0.bias", &[16]),
    ("layers.0.cross_ff.fn.net.2.weight", &[2, 8]),
    ("layers.0.cross_ff.fn.net.2.bias", &[2]),
];

/// Fixed numbers in (−1, 1).
fn numbers(shape: &[usize]) -> ArrayD<f64> {
    let number = |i: usize| ((i as f64 + 1.0) * 12.9898 + shape.len() as f64).sin();
    let count: usize = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).map(number).collect()).expect("its size")
}

/// The shape that a part declares, `[B, H, N + 1]` say, with the instance's sizes in place of symbols
/// and the numbers of the part's example in place of its settings. None where it has others.
fn sizes(shape: &str, example: &str) -> Option<Vec<usize>> {
    let example = spec::toml_value(&format!("part = {example}")).ok()?;
    let settings = example["part"].as_object().and_then(|part| part.values().next());
    let size = |symbol: &str| match symbol {
        "B" => Some(1),
        "H" | "Hk" => Some(HEADS),
        "N" | "M" | "M2" => Some(NODES),
        "D" | "D_v" | "F" => Some(WIDTH),
        "E" => Some(EDGES),
        setting => settings?.get(setting)?.as_u64().map(|number| number as usize),
    };
    let axes = shape.trim_matches(['[', ']']).split(", ");
    axes.map(|axis| match axis.strip_suffix(" + 1") {
        Some(symbol) => Some(size(symbol)? + 1),
        None => size(axis),
    })
    .collect()
}

fn whole(shape: &[usize], numbers: &[i64]) -> ArrayD<i64> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers.to_vec()).expect("its size")
}

impl Default for Instance {
    fn default() -> Self {
        let mut tensors = Tensors::default();
        let shapes: [(&str, &[usize]); 10] = [
            ("q", &[1, HEADS, NODES, WIDTH]),
            ("k", &[1, HEADS, NODES, WIDTH]),
            ("v", &[1, HEADS, NODES, WIDTH]),
            ("states", &[1, HEADS, NODES, WIDTH]),
            ("inputs", &[1, NODES, WIDTH]),
            ("points", &[1, HEADS, NODES, WIDTH]),
            ("patterns", &[1, HEADS, NODES, WIDTH]),
            ("covariance.r", &[1, HEADS, NODES, WIDTH]),
            ("tangent.q", &[1, HEADS, NODES, WIDTH]),
            ("scores", &[1, HEADS, NODES, NODES]),
        ];
        for (name, shape) in shapes {
            tensors.real.insert(name.to_owned(), numbers(shape).into());
        }
        let named = spec::parts().flat_map(|part| part.tensors.iter().map(move |own| (part, own)));
        for (part, tensor) in named {
            // A part whose shapes have symbols of their own has its tensors below.
            let Some(shape) = sizes(tensor.shape, part.example) else { continue };
            let name = tensor.name.to_owned();
            match tensor.entries {
                Entries::Real => drop(tensors.real.insert(name, numbers(&shape).into())),
                Entries::NonPositive => {
                    let numbers = numbers(&shape).mapv(|x| -x.abs());
                    drop(tensors.real.insert(name, numbers.into()));
                }
                Entries::Whole => drop(tensors.integer.insert(name, ArrayD::zeros(IxDyn(&shape)))),
            }
        }
        // Masses are of a transport, which is no exact inference.
        for name in ["query-mass", "key-mass", "mass"] {
            tensors.real.remove(name);
        }
        // A ring in which every node is its own neighbour.
        for (name, numbers) in [
            ("adjacency.indptr", &[0, 2, 4, 6, 8][..]),
            ("adjacency.indices", &[0, 1, 1, 2, 2, 3, 3, 0]),
        ] {
            tensors.integer.insert(name.to_owned(), whole(&[numbers.len()], numbers));
        }
        // The same at every step, of chains and of segments.
        tensors.real.insert("transitions".to_owned(), numbers(&[NODES, NODES]).into());
        // Every node is there.
        for name in ["lengths", "key-lengths"] {
            tensors.integer.insert(name.to_owned(), whole(&[1], &[NODES as i64]));
        }
        // A path of one hop, and one of none.
        tensors.integer.insert("paths".to_owned(), whole(&[2, 2], &[0, 1, 2, -1]));
        for name in ["segments.q", "segments.k"] {
            tensors.integer.insert(name.to_owned(), whole(&[1, NODES], &[0, 0, 1, 1]));
        }
        Self(tensors)
    }
}

impl Instance {
    /// Everything an input file would hold.
    pub fn tensors(&self) -> &Tensors<'static, f64> {
        &self.0
    }

    /// With the weights of a mechanism that has learned ones.
    pub fn of(mechanism: &MechanismSpec) -> Self {
        let mut instance = Self::default();
        let weights = match mechanism {
            MechanismSpec::Slots(_) => SLOTS,
            MechanismSpec::BlockSlots(_) => BLOCK_SLOTS,
            MechanismSpec::Perceiver(_) => PERCEIVER,
            _ => &[],
        };
        for (name, shape) in weights {
            instance.0.real.insert(format!("weights.{name}"), numbers(shape).into());
        }
        instance
    }

    /// Asks for the gradients of an answer of this shape.
    pub fn upstream(&mut self, question: &str, shape: &[usize]) {
        self.0.real.insert(format!("grad.{question}"), ArrayD::ones(IxDyn(shape)).into());
    }

    /// Shape of the mean.
    pub fn mean_shape(&self) -> [usize; 4] {
        [1, HEADS, NODES, WIDTH]
    }
}

/// Name of the inference that is exact for a model.
pub fn inference(model: &ModelSpec) -> Result<String, Error> {
    with_posterior(model, |posterior| Ok(posterior.inference().name().to_owned()))
}

/// Tries something on the posterior of a model.
pub fn with_posterior<R>(
    model: &ModelSpec,
    try_on: impl Fn(&Posterior<'_, f64>) -> Result<R, Error>,
) -> Result<R, Error> {
    let tensors = Instance::default().0;
    let model = model.build::<f64>(HEADS, WIDTH, &tensors)?;
    let four = |name: &str| tensors.real[name].view().into_dimensionality::<Ix4>().expect("4 axes");
    try_on(&model.posterior(four("q"), four("k"))?)
}
