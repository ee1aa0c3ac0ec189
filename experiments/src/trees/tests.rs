//! Learning, measuring and going on, on sentences made for the purpose.

use burn::tensor::{DType, Device, Tensor, TensorData};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::trees::arborescences;
use ndarray::Array2;

use super::conllu::{Sentence, Word};
use super::metrics::is_projective;
use super::structure::{Gold, decode, loss};
use super::*;
use crate::finished::{Finished, PARTIAL};
use crate::random::Random;

/// Every choice of heads that a structure allows in a sentence, from the definition.
fn edge_sets(structure: Structure, words: usize) -> Vec<Vec<usize>> {
    let nodes = words + 1;
    let heads = |edges: Vec<(usize, usize)>| edges.into_iter().map(|edge| edge.1).collect();
    match structure {
        Structure::EachQueryPicksOne => (0..nodes.pow(words as u32))
            .map(|number| (0..words as u32).map(|w| number / nodes.pow(w) % nodes).collect())
            .filter(|heads: &Vec<usize>| heads.iter().zip(1..).all(|(&head, word)| head != word))
            .collect(),
        Structure::Arborescence => {
            arborescences(nodes, 0, Some(1)).into_iter().map(heads).collect()
        }
        Structure::ProjectiveArborescence => edge_sets(Structure::Arborescence, words)
            .into_iter()
            .filter(|heads| is_projective(heads))
            .collect(),
    }
}

/// Sentences of different lengths with scores, the trees drawn from those without crossing edges.
struct Case {
    gold: Gold,
    nodes: usize,
    scores: Vec<f64>,
}

impl Case {
    fn new(words: &[usize]) -> Self {
        let mut random = Random::new(7, 0);
        let nodes = words.iter().max().unwrap() + 1;
        let draw = |&words: &usize| {
            let trees = edge_sets(Structure::ProjectiveArborescence, words);
            trees[random.choose(trees.len(), 1)[0]].clone()
        };
        let heads = words.iter().map(draw).collect();
        let gold = Gold { lengths: words.iter().map(|words| words + 1).collect(), heads };
        let scores = (0..words.len() * nodes * nodes).map(|_| 2.0 * random.normal()).collect();
        Self { gold, nodes, scores }
    }

    fn of_sentence<'s>(
        &self,
        scores: &'s [f64],
        sentence: usize,
    ) -> impl Fn(usize, usize) -> f64 + 's {
        let nodes = self.nodes;
        move |word, head| scores[(sentence * nodes + word) * nodes + head]
    }

    /// Mean over words of log Σ exp − score of the tree, summed over the list.
    fn expected(&self, structure: Structure, scores: &[f64]) -> f64 {
        let mut nats = 0.0;
        for (sentence, gold) in self.gold.heads.iter().enumerate() {
            let score = self.of_sentence(scores, sentence);
            let of = |heads: &Vec<usize>| {
                heads.iter().zip(1..).map(|(&head, word)| score(word, head)).sum::<f64>()
            };
            let sets = edge_sets(structure, gold.len());
            nats += sets.iter().map(|heads| of(heads).exp()).sum::<f64>().ln() - of(gold);
        }
        nats / self.gold.heads.iter().map(Vec::len).sum::<usize>() as f64
    }

    fn tensor(&self, device: &Device) -> Tensor<4> {
        let shape = [self.gold.heads.len(), 1, self.nodes, self.nodes];
        let data = TensorData::new(self.scores.clone(), shape);
        Tensor::from_data(data, (device, DType::F64)).require_grad()
    }
}

#[test]
fn the_loss_is_that_of_listed_edge_sets_and_its_gradient_that_of_differences() {
    let case = Case::new(&[3, 1, 4]);
    let device = Device::flex().autodiff();
    for structure in Structure::ALL {
        let scores = case.tensor(&device);
        let found = loss(structure, scores.clone(), &case.gold).unwrap();
        let expected = case.expected(structure, &case.scores);
        let value = found.clone().into_scalar::<f64>();
        assert!((value - expected).abs() < 1e-12, "{structure:?}: {value}, {expected}");
        let gradients = found.backward();
        let found = scores.grad(&gradients).unwrap().into_data().try_into_vec::<f64>().unwrap();
        let expected = gradient(&case.scores, |scores| case.expected(structure, scores));
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            let gap = (found - expected.value).abs();
            assert!(gap < 1e-9, "{structure:?} {place}: {found}, {}", expected.value);
        }
    }
}

#[test]
fn heads_and_probabilities_are_those_of_listed_edge_sets() {
    let case = Case::new(&[4, 2, 3]);
    for structure in Structure::ALL {
        for (sentence, gold) in case.gold.heads.iter().enumerate() {
            let nodes = gold.len() + 1;
            let score = case.of_sentence(&case.scores, sentence);
            let table = Array2::from_shape_fn((nodes, nodes), |(word, head)| score(word, head));
            let found = decode(structure, &table, gold).unwrap();
            let sets = edge_sets(structure, gold.len());
            let of = |heads: &Vec<usize>| {
                heads.iter().zip(1..).map(|(&head, word)| score(word, head)).sum::<f64>()
            };
            let sum: f64 = sets.iter().map(|heads| of(heads).exp()).sum();
            let best = sets.iter().max_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
            assert_eq!(&found.heads, best, "{structure:?}");
            assert!((found.log_probability - (of(gold) - sum.ln())).abs() < 1e-12);
            for (word, head) in (1..nodes).flat_map(|w| (0..nodes).map(move |h| (w, h))) {
                let having = sets.iter().filter(|heads| heads[word - 1] == head);
                let expected = having.map(|heads| of(heads).exp()).sum::<f64>() / sum;
                let gap = (found.marginals[[word, head]] - expected).abs();
                assert!(gap < 1e-12, "{structure:?}: {word} from {head} is off by {gap}");
            }
        }
    }
    // A tree with crossing edges has no probability among those without.
    let crossing = decode(Structure::ProjectiveArborescence, &Array2::zeros((5, 5)), &[3, 4, 0, 3]);
    assert_eq!(crossing.unwrap().log_probability, f64::NEG_INFINITY);
    let some = decode(Structure::Arborescence, &Array2::zeros((5, 5)), &[3, 4, 0, 3]);
    assert!((some.unwrap().log_probability + 64f64.ln()).abs() < 1e-12);
}

/// Sentences of words that say nothing, each with a tree of its own.
fn sentences(count: usize) -> Vec<Sentence> {
    let mut random = Random::new(3, 0);
    let sentence = |number: usize| {
        let words = 2 + number % 4;
        let trees = edge_sets(Structure::ProjectiveArborescence, words);
        let heads = trees[random.choose(trees.len(), 1)[0]].clone();
        let word = |(place, head): (usize, usize)| Word {
            form: format!(
                "{}{}",
                ["ka", "se", "mı", "on", "ü"][place],
                (number * 7 + place * 3) % 10
            ),
            head,
            space_after: place % 2 == 0,
            joins_words: place < 4,
        };
        Sentence {
            id: number.to_string(),
            words: heads.into_iter().enumerate().map(word).collect(),
        }
    };
    (0..count).map(sentence).collect()
}

fn config() -> Config {
    toml::from_str(
        r#"
        seeds      = [1, 2]
        structures = ["each-query-picks-one", "arborescence", "projective-arborescence"]
        threads    = 2
        known      = 1
        bins       = 4
        shown      = "9"
        [training]
        batch    = 4
        epochs   = 3
        longest  = 5
        model    = { embedding = 6, width = 8, dilations = [1, 2], edge = 5, distance = 3 }
        hiding   = { units = 0.1, features = 0.1 }
        [training.optimiser]
        rate     = 1e-2
        warm-up  = 2
        "#,
    )
    .expect("settings")
}

#[test]
fn ten_sentences_are_learned_by_heart_under_every_structure() {
    let mut config = config();
    config.training.epochs = 150;
    config.training.batch = 10;
    config.training.hiding = parser::Hiding { units: 0.0, features: 0.0 };
    let treebank =
        Treebank { learned: sentences(10), held_out: sentences(10), ..Treebank::default() };
    let data = Prepared::new(&config, &treebank).unwrap();
    for structure in Structure::ALL {
        let run = learn_and_measure(&config, &data, structure, 5).unwrap();
        assert!(run.losses[0] > 0.5 && *run.losses.last().unwrap() < 0.1, "{:?}", run.losses);
        let counts = run.under(structure).counts;
        assert_eq!(counts.attachment(), 1.0, "{structure:?}: {counts:?}");
        assert_eq!((counts.exact, counts.roots, counts.trees), (10, 10, 10), "{structure:?}");
    }
}

#[test]
fn a_stopped_experiment_comes_to_the_numbers_of_one_without_a_break() {
    let (config, mut treebank) = (config(), Treebank::default());
    treebank.add(sentences(30));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let results = || serde_json::from_str::<serde_json::Value>(&read("results.json")).unwrap();
    run_on(&path, config.clone(), &treebank).unwrap();
    assert!(!folder.path().join(PARTIAL).exists());
    let whole = results();
    let pictures = (read("picture.svg"), read("tree.svg"));
    let mut runs: Vec<Run> = serde_json::from_value(whole["runs"].clone()).unwrap();
    assert_eq!(runs.len(), 6);

    // Stopped after two runs, whose times show that they are not made again.
    runs.truncate(2);
    runs.iter_mut().for_each(|run| run.seconds = -1.0);
    let stopped = Finished { config: config.clone(), runs: runs.clone() };
    let stopped = serde_json::to_string(&stopped).unwrap();
    std::fs::write(folder.path().join(PARTIAL), &stopped).unwrap();
    run_on(&path, config.clone(), &treebank).unwrap();
    let mut resumed = results();
    let times = |results: &mut serde_json::Value| -> Vec<f64> {
        let runs = results["runs"].as_array_mut().unwrap();
        runs.iter_mut().map(|run| run["seconds"].take().as_f64().unwrap()).collect()
    };
    let mut once = whole.clone();
    times(&mut once);
    assert_eq!(times(&mut resumed).iter().filter(|&&time| time == -1.0).count(), 2);
    assert_eq!(resumed, once);
    assert_eq!((read("picture.svg"), read("tree.svg")), pictures);

    // What was kept of other settings is of no use.
    std::fs::write(folder.path().join(PARTIAL), stopped.replace("\"epochs\":3", "\"epochs\":4"))
        .unwrap();
    run_on(&path, config, &treebank).unwrap();
    assert!(times(&mut results()).iter().all(|&time| time >= 0.0));
}

#[test]
fn settings_that_name_no_sentence_are_refused() {
    let mut treebank = Treebank::default();
    treebank.add(sentences(10));
    let config = Config { shown: "none".into(), ..config() };
    let folder = tempfile::tempdir().unwrap();
    let error = run_on(&folder.path().join("config.toml"), config, &treebank).unwrap_err();
    assert!(error.to_string().contains("no held-out sentence is called none"), "{error}");
}
