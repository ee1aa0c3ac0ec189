//! The network: words, their neighbourhoods, and how well each would be the head of each other.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation, module};
use marginals_burn::ops::layer_norm;
use serde::{Deserialize, Serialize};

use super::structure::Gold;
use super::treebank::{ABSENT, Example, SLOTS, unknown};
use crate::Outcome;
use crate::random::Random;

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sizes {
    /// Numbers of a unit's embedding.
    pub embedding: usize,
    /// Numbers of a node between convolutions.
    pub width: usize,
    /// How far the three words that a convolution reads stand apart, of each.
    pub dilations: Vec<usize>,
    /// Numbers of a node as a head and as a dependent.
    pub edge: usize,
    /// Longest distance with a score of its own.
    pub distance: usize,
}

/// Inputs hidden from the network while it learns.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hiding {
    /// Share of the units that are read as unknown ones.
    pub units: f64,
    /// Share of the numbers that are set to 0, for all words of a sentence together.
    pub features: f64,
}

/// Layer normalisation of x, and then x W + b.
#[derive(Module, Debug)]
struct Affine {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// Embeddings, gated convolutions (Dauphin et al., arXiv 1612.08083; with residual connections and
/// dilations), and a score for every edge. With d and h the vectors of a node as dependent and as head,
///
/// ```text
/// θ_ij = d_i U h_j + u · h_j + b(j − i)
/// ```
///
/// (Dozat & Manning, arXiv 1611.01734, eq. 9), b depending on how far the head stands, and to which side.
#[derive(Module, Debug)]
pub struct Parser {
    units: Param<Tensor<2>>,
    input: Affine,
    convolutions: Vec<Affine>,
    dilations: Vec<usize>,
    dependent: Affine,
    head: Affine,
    bilinear: Param<Tensor<2>>,
    head_bias: Param<Tensor<1>>,
    of_distance: Param<Tensor<1>>,
}

/// Sentences side by side.
pub struct Batch {
    /// `[B, N · SLOTS]`.
    units: Tensor<2, Int>,
    /// 1 where a node is, 0 where a sentence is filled up. `[B, N, 1]`.
    is_node: Tensor<3>,
    pub gold: Gold,
}

/// Streams of random numbers: of the first weights, in order, and of steps.
const WEIGHTS: u32 = 0;
const STEPS: u32 = 1 << 20;

/// Random numbers of one step.
pub fn noise(seed: u64, step: usize) -> Random {
    Random::new(seed, STEPS + step as u32)
}

/// Makes tensors on a device, in one number format.
#[derive(Clone)]
pub struct Place {
    pub device: Device,
    pub format: DType,
}

impl Place {
    fn tensor<const D: usize>(&self, entries: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(entries, shape), (&self.device, self.format))
    }

    fn vector(&self, entries: Vec<f64>) -> Param<Tensor<1>> {
        let length = entries.len();
        Param::from_tensor(self.tensor(entries, [length]))
    }
}

/// First weights, one tensor after the other.
struct First<'p> {
    seed: u64,
    next: u32,
    place: &'p Place,
}

impl First<'_> {
    /// Normal, of this deviation.
    fn normal(&mut self, rows: usize, columns: usize, deviation: f64) -> Param<Tensor<2>> {
        let mut random = Random::new(self.seed, WEIGHTS + self.next);
        self.next += 1;
        let entries = (0..rows * columns).map(|_| deviation * random.normal()).collect();
        Param::from_tensor(self.place.tensor(entries, [rows, columns]))
    }

    fn affine(&mut self, inputs: usize, normalised: usize, outputs: usize) -> Affine {
        Affine {
            gamma: self.place.vector(vec![1.0; normalised]),
            beta: self.place.vector(vec![0.0; normalised]),
            weight: self.normal(inputs, outputs, (1.0 / inputs as f64).sqrt()),
            bias: self.place.vector(vec![0.0; outputs]),
        }
    }
}

impl Affine {
    fn normal(&self, x: Tensor<3>) -> Outcome<Tensor<3>> {
        Ok(layer_norm(x, self.gamma.val(), self.beta.val(), 1e-5)?)
    }

    fn product(&self, x: Tensor<3>) -> Tensor<3> {
        module::linear(x, self.weight.val(), Some(self.bias.val()))
    }
}

impl Parser {
    /// The network that a seed starts from.
    pub fn new(sizes: &Sizes, units: usize, seed: u64, place: &Place) -> Self {
        let Sizes { embedding, width, edge, .. } = *sizes;
        let mut first = First { seed, next: 0, place };
        Self {
            units: first.normal(units, embedding, 1.0 / (SLOTS as f64).sqrt()),
            input: first.affine(embedding, embedding, width),
            convolutions: sizes
                .dilations
                .iter()
                .map(|_| first.affine(3 * width, width, 2 * width))
                .collect(),
            dilations: sizes.dilations.clone(),
            dependent: first.affine(width, width, edge),
            head: first.affine(width, width, edge),
            // Scores begin near 0.
            bilinear: first.normal(edge, edge, 0.1 / edge as f64),
            head_bias: place.vector(vec![0.0; edge]),
            of_distance: place.vector(vec![0.0; 2 * sizes.distance + 2]),
        }
    }

    /// Scores of all edges, of dependents (rows) and heads.
    ///
    /// # Shapes
    /// - output: `[B, 1, N, N]`
    pub fn scores(
        &self,
        batch: &Batch,
        hidden: Option<(Hiding, &mut Random)>,
    ) -> Outcome<Tensor<4>> {
        let [sentences, nodes, _] = batch.is_node.dims();
        let options = (&batch.is_node.device(), batch.is_node.dtype());
        let mut hidden = hidden;
        // Numbers that are left count for those that are not, so that sums stay as large.
        let mut keep = |x: Tensor<3>| -> Tensor<3> {
            let Some((hiding, random)) = &mut hidden else { return x };
            let width = x.dims()[2];
            let left = 1.0 - hiding.features;
            let kept = (0..sentences * width)
                .map(|_| if random.unit() < left { 1.0 / left } else { 0.0 })
                .collect();
            x * Tensor::from_data(TensorData::new::<f64, _>(kept, [sentences, 1, width]), options)
        };
        let units = module::embedding(self.units.val(), batch.units.clone());
        let embedding = units.dims()[2];
        let sums = units.reshape([sentences, nodes, SLOTS, embedding]).sum_dim(2).squeeze_dim(2);
        let mut x = self.input.product(keep(self.input.normal(sums)?));
        for (convolution, &dilation) in self.convolutions.iter().zip(&self.dilations) {
            let own = convolution.normal(x.clone())? * batch.is_node.clone();
            let both = convolution.product(neighbours(own, dilation));
            let width = both.dims()[2] / 2;
            let (a, b) = (both.clone().narrow(2, 0, width), both.narrow(2, width, width));
            x = x + keep(a * activation::sigmoid(b));
        }
        let dependent = activation::gelu(self.dependent.product(self.dependent.normal(x.clone())?));
        let head = activation::gelu(self.head.product(self.head.normal(x)?));
        let (dependent, head) = (keep(dependent), keep(head));
        // d_i U h_j + u · h_j = (d_i U + u) · h_j
        let toward = module::linear(dependent, self.bilinear.val(), Some(self.head_bias.val()));
        let scores = toward.matmul(head.swap_dims(1, 2)) + self.distance_scores(nodes);
        Ok(scores.unsqueeze_dim(1))
    }

    /// `[1, N, N]`.
    fn distance_scores(&self, nodes: usize) -> Tensor<3> {
        let furthest = (self.of_distance.dims()[0] - 2) as i64 / 2;
        let place = |place: usize| {
            let (dependent, head) = ((place / nodes) as i64, (place % nodes) as i64);
            // The root stands at no distance.
            if head == 0 { 0 } else { 1 + furthest + (head - dependent).clamp(-furthest, furthest) }
        };
        let places: Vec<i64> = (0..nodes * nodes).map(place).collect();
        let places = TensorData::new(places, [nodes * nodes]);
        let places = Tensor::<1, Int>::from_data(places, &self.of_distance.val().device());
        self.of_distance.val().select(0, places).reshape([1, nodes, nodes])
    }
}

/// Every node beside those `dilation` before and behind it, zeros where there are none.
fn neighbours(x: Tensor<3>, dilation: usize) -> Tensor<3> {
    let [batch, nodes, width] = x.dims();
    let zeros = Tensor::<3>::zeros([batch, dilation, width], (&x.device(), x.dtype()));
    let x = Tensor::cat(vec![zeros.clone(), x, zeros], 1);
    Tensor::cat((0..3).map(|part| x.clone().narrow(1, part * dilation, nodes)).collect(), 2)
}

impl Batch {
    /// These sentences, with some units read as unknown ones.
    pub fn of(
        examples: &[&Example],
        mut hidden: Option<(Hiding, &mut Random)>,
        place: &Place,
    ) -> Self {
        let lengths: Vec<usize> = examples.iter().map(|example| example.units.len()).collect();
        let nodes = lengths.iter().copied().max().unwrap_or(0);
        let (mut units, mut is_node) = (Vec::new(), Vec::new());
        for example in examples {
            for node in 0..nodes {
                let own = example.units.get(node);
                is_node.push(f64::from(u8::from(own.is_some())));
                for slot in 0..SLOTS {
                    let unit = own.map_or(ABSENT, |units| units[slot]);
                    // The root is no word, and what a word does not have is no secret.
                    let is_hidden = node > 0
                        && unit != ABSENT
                        && hidden.as_mut().is_some_and(|(own, random)| random.unit() < own.units);
                    units.push(if is_hidden { unknown(slot) } else { unit });
                }
            }
        }
        let units = TensorData::new(units, [examples.len(), nodes * SLOTS]);
        Self {
            units: Tensor::from_data(units, &place.device),
            is_node: place.tensor(is_node, [examples.len(), nodes, 1]),
            gold: Gold { lengths, heads: examples.iter().map(|e| e.heads.clone()).collect() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conllu::{Sentence, Word};
    use super::super::structure::{Structure, loss};
    use super::super::treebank::Vocabulary;
    use super::*;
    use marginals_testkit::finite_difference::gradient_at;

    fn sizes() -> Sizes {
        Sizes { embedding: 5, width: 6, dilations: vec![1, 2], edge: 4, distance: 2 }
    }

    fn examples() -> (Vec<Example>, usize) {
        let sentence = |heads: &[usize]| {
            let word = |(place, &head): (usize, &usize)| Word {
                form: ["ev", "at", "su", "kara", "gel"][(place * 2 + heads.len()) % 5].into(),
                head,
                space_after: place > 0,
                joins_words: true,
            };
            Sentence { id: String::new(), words: heads.iter().enumerate().map(word).collect() }
        };
        let all = [sentence(&[2, 0]), sentence(&[3, 1, 5, 3, 0]), sentence(&[0])];
        let vocabulary = Vocabulary::of(&all, 1);
        (all.iter().map(|s| vocabulary.encode(s)).collect(), vocabulary.len())
    }

    fn place(device: Device) -> Place {
        Place { device, format: DType::F64 }
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().try_into_vec().expect("doubles")
    }

    /// Padding of a sentence changes nothing.
    #[test]
    fn scores_are_those_of_a_sentence_alone() {
        let (examples, units) = examples();
        let place = place(Device::flex());
        let parser = Parser::new(&sizes(), units, 1, &place);
        let all: Vec<&Example> = examples.iter().collect();
        let together = numbers(parser.scores(&Batch::of(&all, None, &place), None).unwrap());
        let most = examples.iter().map(|example| example.units.len()).max().unwrap();
        for (number, example) in examples.iter().enumerate() {
            let alone = numbers(parser.scores(&Batch::of(&[example], None, &place), None).unwrap());
            let nodes = example.units.len();
            for (at, alone) in alone.iter().enumerate() {
                let (i, j) = (at / nodes, at % nodes);
                let together = together[(number * most + i) * most + j];
                assert!((alone - together).abs() < 1e-12, "{number}, {i} {j}: {alone} {together}");
            }
            // They depend on where a word stands and on what it is.
            assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "{alone:?}");
        }
    }

    /// Of the loss in the weights, through everything, with numbers hidden as when it learns.
    #[test]
    fn gradients_are_those_of_differences() {
        let (examples, units) = examples();
        let place = place(Device::flex().autodiff());
        let all: Vec<&Example> = examples.iter().collect();
        let hiding = Hiding { units: 0.2, features: 0.2 };
        for structure in [Structure::EachQueryPicksOne, Structure::Arborescence] {
            let of = |parser: &Parser| {
                let mut random = noise(4, 0);
                let batch = Batch::of(&all, Some((hiding, &mut random)), &place);
                let scores = parser.scores(&batch, Some((hiding, &mut random))).unwrap();
                loss(structure, scores, &batch.gold).unwrap()
            };
            let mut parser = Parser::new(&sizes(), units, 2, &place);
            // Large enough that words matter.
            let larger = numbers(parser.bilinear.val()).iter().map(|x| 20.0 * x).collect();
            parser.bilinear = Param::from_tensor(place.tensor(larger, [4, 4]));
            let gradients = of(&parser).backward();
            let check =
                |name: &str, found: Vec<f64>, entries: &[f64], with: &dyn Fn(&[f64]) -> Parser| {
                    let places = (0..entries.len()).step_by((entries.len() / 7).max(1));
                    let by_differences = gradient_at(entries, places.clone(), |entries| {
                        of(&with(entries)).into_scalar::<f64>()
                    });
                    for (at, expected) in places.zip(&by_differences) {
                        let gap = (found[at] - expected.value).abs();
                        assert!(gap < 1e-8, "{name} {at}: {}, {}", found[at], expected.value);
                    }
                    assert!(found.iter().any(|x| x.abs() > 1e-4), "{name} has no gradient");
                };
            macro_rules! check {
                ($($field:ident $(. $part:ident)? $([$index:literal] . $last:ident)?),*) => { $(
                    let weight = parser.$field $(.$part)? $([$index].$last)?.val();
                    let found = numbers(weight.grad(&gradients).expect("a gradient"));
                    let shape = weight.dims();
                    check(stringify!($field), found, &numbers(weight), &|entries| {
                        let mut moved = parser.clone();
                        let tensor = place.tensor(entries.to_vec(), shape);
                        moved.$field $(.$part)? $([$index].$last)? = Param::from_tensor(tensor);
                        moved
                    });
                )* };
            }
            check!(
                units,
                input.weight,
                input.gamma,
                convolutions[0].weight,
                convolutions[1].beta,
                dependent.weight,
                head.bias,
                bilinear,
                head_bias,
                of_distance
            );
        }
    }
}
