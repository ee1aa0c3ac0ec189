//! Sums over alignments against lists of them, EM on verses made for the purpose, and going on.

use ndarray::Array2;

use super::bible::{Counts, Pair};
use super::corpus::{Corpus, Direction, Split};
use super::diagonal::Diagonal;
use super::jumps::Jumps;
use super::learning::{Settings, learn};
use super::markup::Word;
use super::posterior::{align, expect};
use super::structure::{Batch, Structure};
use super::sword::Reference;
use super::*;
use crate::finished::{Finished, PARTIAL};
use crate::random::Random;

/// Probabilities t(w_i | s_j) of made-up verses with `words` source words, [n, m + 1], the null word's last.
fn verses(words: usize, lengths: &[usize]) -> Vec<Array2<f64>> {
    let mut random = Random::new(11, 0);
    let mut verse =
        |&n: &usize| Array2::from_shape_fn((n, words + 1), |_| (-3.0 * random.unit()).exp());
    lengths.iter().map(&mut verse).collect()
}

fn logarithms(verses: &[Array2<f64>]) -> Vec<Array2<f64>> {
    verses.iter().map(|verse| verse.mapv(f64::ln)).collect()
}

fn jumps() -> Jumps {
    let mut jumps = Jumps::new(4, 0.3);
    let moves = Array2::from_shape_fn((5, 4), |(p, j)| ((3 * p + 5 * j) % 7) as f64 + 0.2);
    jumps.learn(&[(4, moves)].into());
    jumps
}

/// All sequences of `length` numbers below `count`.
fn sequences(length: usize, count: usize) -> Vec<Vec<usize>> {
    let number = |place: usize| {
        (0..length as u32).map(move |i| place / count.pow(i) % count).collect::<Vec<_>>()
    };
    (0..count.pow(length as u32)).map(number).collect()
}

/// What is expected of one verse, summed over a list of alignments: the picks of every target word, m for the
/// null word, and p(target words, alignment).
struct Listed {
    log_evidence: f64,
    marginals: Array2<f64>,
    entropy: f64,
    best: Vec<Option<usize>>,
    /// Expected jumps, from the places of words picked last.
    jumps: Array2<f64>,
}

impl Listed {
    fn of(words: usize, all: &[(Vec<usize>, f64)]) -> Self {
        let sum: f64 = all.iter().map(|(_, p)| p).sum();
        let mut marginals = Array2::zeros((all[0].0.len(), words + 1));
        let mut jumps = Array2::zeros((words + 1, words));
        for (picks, p) in all {
            let mut place = 0;
            for (i, &pick) in picks.iter().enumerate() {
                marginals[[i, pick]] += p / sum;
                if pick < words {
                    jumps[[place, pick]] += p / sum;
                    place = pick + 1;
                }
            }
        }
        let (best, _) = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        Self {
            log_evidence: sum.ln(),
            marginals,
            entropy: -all.iter().map(|(_, p)| p / sum * (p / sum).ln()).sum::<f64>(),
            best: best.iter().map(|&pick| (pick < words).then_some(pick)).collect(),
            jumps,
        }
    }

    /// Alignments of a verse with a prior, which is given the picks.
    fn under(verse: &Array2<f64>, prior: &dyn Fn(&[usize]) -> f64) -> Self {
        let keys = verse.ncols();
        let with_probability = |picks: Vec<usize>| {
            let words: f64 = picks.iter().enumerate().map(|(i, &pick)| verse[[i, pick]]).product();
            let p = words * prior(&picks);
            (picks, p)
        };
        let all: Vec<_> =
            sequences(verse.nrows(), keys).into_iter().map(with_probability).collect();
        Self::of(keys - 1, &all)
    }
}

/// Compares a batch with the list of every verse.
fn compare(structure: &Structure, words: usize, verses: &[Array2<f64>], listed: &[Listed]) {
    let potentials = logarithms(verses);
    let batch = Batch { words, verses: &potentials };
    let found = expect(structure, &batch).unwrap();
    let aligned = align(structure, &batch).unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-11;
    for (index, expected) in listed.iter().enumerate() {
        let own = &aligned[index];
        assert!(close(found.log_evidence[index], expected.log_evidence), "{structure:?} {index}");
        assert!(close(own.log_evidence, expected.log_evidence), "{structure:?} {index}");
        assert!(
            close(own.entropy, expected.entropy),
            "{structure:?}: {} {}",
            own.entropy,
            expected.entropy
        );
        for marginals in [&found.marginals[index], &own.marginals] {
            let gap = (marginals - &expected.marginals).mapv(f64::abs);
            assert!(gap.iter().all(|&gap| gap < 1e-12), "{structure:?} {index}: {gap}");
        }
        assert_eq!(own.best, expected.best, "{structure:?} {index}");
    }
    if let Some(jumps) = found.jumps {
        let mut sum = Array2::<f64>::zeros(jumps.dim());
        listed.iter().for_each(|own| sum += &own.jumps);
        let gap = (&jumps - &sum).mapv(f64::abs);
        assert!(gap.iter().all(|&gap| gap < 1e-12), "{gap}");
    }
}

/// IBM model 1 has a closed form (Brown et al., Computational Linguistics 19, 1993): every word's picks are
/// t(w | s) over their sum.
#[test]
fn expectations_of_model_1_are_those_of_its_closed_form() {
    let verses = verses(5, &[3, 7, 1]);
    let potentials = logarithms(&verses);
    let found = expect(&Structure::Uniform, &Batch { words: 5, verses: &potentials }).unwrap();
    for (index, verse) in verses.iter().enumerate() {
        let mut log_evidence = 0.0;
        for (i, row) in verse.outer_iter().enumerate() {
            let mut sum = 0.0;
            for &t in row {
                sum += t;
            }
            log_evidence += (sum / 6.0).ln();
            for (j, &t) in row.iter().enumerate() {
                let gap = (found.marginals[index][[i, j]] - t / sum).abs();
                assert!(gap < 1e-14, "{index} {i} {j}: {gap}");
            }
        }
        assert!((found.log_evidence[index] - log_evidence).abs() < 1e-12, "{index}");
    }
}

#[test]
fn words_that_pick_on_their_own_are_those_of_listed_alignments() {
    let verses = verses(3, &[4, 2]);
    let uniform =
        |verse: &Array2<f64>| Listed::under(verse, &|picks| 0.25f64.powi(picks.len() as i32));
    compare(&Structure::Uniform, 3, &verses, &verses.iter().map(uniform).collect::<Vec<_>>());

    let (null, tension) = (0.15, 3.5);
    let diagonal = |verse: &Array2<f64>| {
        let n = verse.nrows() as f64;
        let weight = |i: usize, j: usize| {
            (-tension * ((i + 1) as f64 / n - (j + 1) as f64 / 3.0).abs()).exp()
        };
        let prior = |(i, &pick): (usize, &usize)| match pick {
            3 => null,
            j => (1.0 - null) * weight(i, j) / (0..3).map(|l| weight(i, l)).sum::<f64>(),
        };
        Listed::under(verse, &|picks| picks.iter().enumerate().map(prior).product())
    };
    let listed: Vec<Listed> = verses.iter().map(diagonal).collect();
    compare(&Structure::Diagonal(Diagonal { null, tension }), 3, &verses, &listed);
}

/// The list knows no null words that remember: it remembers itself.
#[test]
fn chains_are_those_of_listed_alignments() {
    let (null, jumps) = (0.2, jumps());
    let verses = verses(3, &[4, 1, 5, 3]);
    let listed = |verse: &Array2<f64>| {
        let prior = |picks: &[usize]| {
            let (mut place, mut p) = (0, 1.0);
            for &pick in picks {
                if pick == 3 {
                    p *= null;
                } else {
                    p *= (1.0 - null) * jumps.log_probabilities(place, 3)[pick].exp();
                    place = pick + 1;
                }
            }
            p
        };
        Listed::under(verse, &prior)
    };
    let listed: Vec<Listed> = verses.iter().map(listed).collect();
    compare(&Structure::Chain(jumps.clone(), null), 3, &verses, &listed);
}

#[test]
fn monotone_alignments_are_the_listed_ones() {
    let verses = verses(2, &[3, 4, 1]);
    for verse in &verses {
        // Keys: no word, the first, no word, the second, no word.
        let is_forward = |keys: &Vec<usize>| keys.windows(2).all(|two| two[0] <= two[1]);
        let all: Vec<Vec<usize>> =
            sequences(verse.nrows(), 5).into_iter().filter(is_forward).collect();
        let word = |key: usize| if key % 2 == 1 { key / 2 } else { 2 };
        let share = 1.0 / all.len() as f64;
        let with_probability = |keys: &Vec<usize>| {
            let picks: Vec<usize> = keys.iter().map(|&key| word(key)).collect();
            let words: f64 = picks.iter().enumerate().map(|(i, &pick)| verse[[i, pick]]).product();
            (picks, words * share)
        };
        let listed: Vec<_> = all.iter().map(with_probability).collect();
        let one = std::slice::from_ref(verse);
        compare(&Structure::Monotone, 2, one, &[Listed::of(2, &listed)]);
    }
}

/// Verses of a made-up language, whose words stand for those of another, one each, neighbours often
/// exchanged.
fn parallel(count: usize) -> Parallel {
    let mut random = Random::new(5, 0);
    let word = |prefix: &str, number: usize| Word {
        form: format!("{prefix}{number}"),
        numbers: vec![format!("H{number}")],
    };
    let mut pair = |verse: usize| {
        let own = random.choose(40, 3 + verse % 4);
        let mut other = own.clone();
        if random.unit() < 0.5 {
            other.swap(0, 1);
        }
        Pair {
            reference: Reference { chapter: "Gen.1".into(), verse: verse + 1 },
            english: own.iter().map(|&number| word("e", number)).collect(),
            spanish: other.iter().map(|&number| word("s", number)).collect(),
        }
    };
    let pairs: Vec<Pair> = (0..count).map(&mut pair).collect();
    Parallel { counts: Counts { kept: count, ..Counts::default() }, pairs }
}

const KINDS: [Kind; 4] = [Kind::Uniform, Kind::Diagonal, Kind::Chain, Kind::Monotone];

#[test]
fn em_raises_its_objective_in_every_step() {
    let pairs = parallel(80).pairs;
    let split = Split::draw(pairs.len(), (100, 10), 0, 1);
    let settings = Settings { first_steps: 6, steps: 12, null: 0.1, prior: 0.5 };
    for direction in Direction::ALL {
        let corpus = Corpus::new(&pairs, &split, direction, 2);
        for kind in KINDS {
            let learned = learn(kind, &corpus, 8, &settings).unwrap();
            assert_eq!((learned.first.len(), learned.steps.len()), (6, 12));
            for steps in [&learned.first, &learned.steps] {
                for two in steps.windows(2) {
                    let (before, after) = (two[0].objective, two[1].objective);
                    assert!(
                        after > before - 1e-9 * before.abs(),
                        "{kind:?}: {after} after {before}"
                    );
                }
            }
            // From words that say nothing to words that are known.
            let (begin, end) = (learned.first[0].held_out, learned.held_out);
            assert!(end < begin - 1.0, "{kind:?}: {end} after {begin}");
        }
    }
}

fn config() -> Config {
    toml::from_str(
        r#"
        seeds      = [1, 2]
        structures = ["uniform", "diagonal", "chain", "monotone"]
        threads    = 2
        longest    = 8
        learned    = 500
        held-out   = 20
        known      = 1
        candidates = 10
        shown      = "Gen.1.3"
        learning   = { first-steps = 4, steps = 4, null = 0.05, prior = 0.1 }
        "#,
    )
    .expect("settings")
}

#[test]
fn a_made_up_language_is_aligned_word_by_word() {
    let config = config();
    let data = Prepared::new(&config, parallel(300)).unwrap();
    for kind in [Kind::Uniform, Kind::Diagonal, Kind::Chain] {
        let run = learn_and_measure(&config, &data, kind, 1).unwrap();
        let numbers = run.agreement.intersection.numbers;
        assert!(numbers.anchors > 80 && numbers.recall() > 0.97, "{kind:?}: {numbers:?}");
        assert!(numbers.precision() > 0.97 && run.agreement.f1() > 0.97, "{kind:?}: {numbers:?}");
        for way in &run.ways {
            let measured = &way.measured;
            assert_eq!(measured.ranked, 1.0, "{kind:?}");
            assert!(measured.wrong > measured.bits + 1.0, "{kind:?}: {measured:?}");
            assert!((measured.bits - way.held_out).abs() < 1e-9, "{kind:?}: {measured:?}");
        }
    }
    // Exchanged neighbours are what it cannot have.
    let run = learn_and_measure(&config, &data, Kind::Monotone, 1).unwrap();
    assert!(run.agreement.union.numbers.recall() < 0.97);
}

#[test]
fn a_stopped_experiment_comes_to_the_numbers_of_one_without_a_break() {
    let config = config();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let results = || serde_json::from_str::<serde_json::Value>(&read("results.json")).unwrap();
    let times = |results: &mut serde_json::Value| -> Vec<f64> {
        let runs = results["runs"].as_array_mut().unwrap();
        runs.iter_mut().map(|run| run["seconds"].take().as_f64().unwrap()).collect()
    };
    run_on(&path, config.clone(), parallel(120)).unwrap();
    assert!(!folder.path().join(PARTIAL).exists());
    let mut whole = results();
    let pictures = (read("picture.svg"), read("verse.svg"));
    let mut runs: Vec<Run> = serde_json::from_value(whole["runs"].clone()).unwrap();
    assert_eq!(runs.len(), 8);

    // Stopped after three runs, whose times show that they are not made again.
    runs.truncate(3);
    runs.iter_mut().for_each(|run| run.seconds = -1.0);
    let stopped = serde_json::to_string(&Finished { config: config.clone(), runs }).unwrap();
    std::fs::write(folder.path().join(PARTIAL), &stopped).unwrap();
    run_on(&path, config.clone(), parallel(120)).unwrap();
    let mut resumed = results();
    assert_eq!(times(&mut resumed).iter().filter(|&&time| time == -1.0).count(), 3);
    times(&mut whole);
    assert_eq!(resumed, whole);
    assert_eq!((read("picture.svg"), read("verse.svg")), pictures);

    // What was kept of other settings is of no use; and one thread comes to the same numbers.
    let changed = stopped.replace("\"known\":1", "\"known\":2");
    assert_ne!(changed, stopped);
    std::fs::write(folder.path().join(PARTIAL), changed).unwrap();
    let alone = Config { threads: std::num::NonZeroUsize::MIN, ..config };
    run_on(&path, alone, parallel(120)).unwrap();
    let mut again = results();
    assert!(times(&mut again).iter().all(|&time| time >= 0.0));
    for results in [&mut again, &mut whole] {
        results["config"]["threads"].take();
    }
    assert_eq!(again, whole);
}

#[test]
fn settings_that_say_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let message = |config: Config| run_on(&path, config, parallel(30)).unwrap_err().to_string();
    let shown = message(Config { shown: "Gen.2.1".into(), ..config() });
    assert!(shown.contains("no verse that is read is Gen.2.1"), "{shown}");
    let held_out = message(Config { held_out: 29, ..config() });
    assert!(held_out.contains("none to learn from"), "{held_out}");
    let null = Settings { null: 1.0, ..config().learning };
    assert!(message(Config { learning: null, ..config() }).contains("`null`"));
    assert!(message(Config { seeds: Vec::new(), ..config() }).contains("`seeds`"));
}
