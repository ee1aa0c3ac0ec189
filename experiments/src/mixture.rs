//! EM on the scikit-learn digits: log-likelihood and purity, beside scikit-learn from the same
//! starts.

use std::path::Path;

use marginals::infer::collapsed::{Acceleration, Exact, FixedPoint};
use marginals::question::Map;
use marginals::zoo::k_means::KMeans;
use marginals::zoo::mixture::{Covariance, Mixture, Parameters};
use ndarray::{Array2, Array3, Array4, ArrayView4, Axis as Dimension};
use serde::{Deserialize, Serialize};

use crate::picture::{Axis, Chart, Line, Style, draw};
use crate::random::Random;
use crate::{Outcome, Spread, data, read_config, write};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seeds: Vec<u64>,
    components: usize,
    regularisation: f64,
    compared: Vec<usize>,
    tolerance: f64,
    steps: usize,
    memory: usize,
}

/// One start of one kind of mixture, after the iterations that are compared.
#[derive(Deserialize, Serialize)]
struct Run {
    /// Per point, in nats.
    log_likelihood: Vec<f64>,
    purity: Vec<f64>,
}

/// scikit-learn from the same starts.
#[derive(Deserialize)]
struct Reference {
    spherical: Vec<Run>,
    diagonal: Vec<Run>,
    k_means: Vec<Hard>,
}

#[derive(Deserialize, Serialize)]
struct Hard {
    inertia: f64,
    purity: f64,
}

/// One kind of mixture, over starts.
#[derive(Serialize)]
struct Kind {
    covariance: Covariance,
    runs: Vec<Run>,
    /// Largest difference from scikit-learn's log-likelihood per point, per compared iteration.
    largest_difference: Option<Vec<f64>>,
    /// Starts that purity differs for, at any of them.
    purity_differs: Option<usize>,
    converged: Converged,
}

/// Fits to convergence.
#[derive(Serialize)]
struct Converged {
    log_likelihood: Spread,
    best_log_likelihood: f64,
    purity: Spread,
    purity_of_best: f64,
    steps: Spread,
    accelerated_steps: Spread,
    accelerated_evaluations: Spread,
    accelerated_log_likelihood: Spread,
}

#[derive(Serialize)]
struct Results {
    config: Config,
    /// The points that each start has its means at.
    starts: Vec<Vec<usize>>,
    kinds: Vec<Kind>,
    k_means: Vec<Hard>,
    k_means_purity: Spread,
    k_means_largest_difference: Option<f64>,
}

/// Share of points whose cluster's commonest digit is theirs.
fn purity(labels: &[usize], clusters: impl IntoIterator<Item = i64>, components: usize) -> f64 {
    let mut counts = Array2::<usize>::zeros((components, 10));
    for (cluster, &label) in clusters.into_iter().zip(labels) {
        counts[[cluster as usize, label]] += 1;
    }
    let most = counts.rows().into_iter().map(|row| row.iter().copied().max().unwrap_or(0));
    most.sum::<usize>() as f64 / labels.len() as f64
}

struct Digits<'a> {
    points: ArrayView4<'a, f64>,
    labels: &'a [usize],
    /// Means of each start, [1, 1, K, D].
    starts: Vec<Array4<f64>>,
}

impl Digits<'_> {
    fn start(
        &self,
        mixture: &Mixture<'_, f64>,
        means: &Array4<f64>,
        added: f64,
    ) -> Outcome<Vec<f64>> {
        let (.., components, width) = means.dim();
        let points = self.points.index_axis(Dimension(0), 0);
        let points = points.index_axis(Dimension(0), 0);
        let each = points.var_axis(Dimension(0), 0.0);
        let of_width = |v: usize| match v {
            1 => vec![each.sum() / width as f64 + added],
            _ => each.iter().map(|x| x + added).collect(),
        };
        let variances = mixture.variances();
        let own = of_width(variances);
        Ok(mixture.pack(&Parameters {
            means: means.clone(),
            variances: Array4::from_shape_fn((1, 1, components, variances), |(.., v)| own[v]),
            weights: Array3::from_elem((1, 1, components), 1.0 / components as f64),
        })?)
    }

    fn purity(&self, mixture: &Mixture<'_, f64>, z: &[f64], components: usize) -> Outcome<f64> {
        Ok(purity(self.labels, mixture.ask(z, Map)?, components))
    }

    fn kind(
        &self,
        covariance: Covariance,
        config: &Config,
        reference: Option<&[Run]>,
    ) -> Outcome<(Kind, Array2<f64>)> {
        let count = self.labels.len() as f64;
        let mixture = Mixture::new(self.points, config.components, covariance)?
            .with_regularisation(config.regularisation)?;
        let mut runs = Vec::new();
        let mut ends: Vec<(f64, f64)> = Vec::new();
        let (mut steps, mut fast_steps, mut fast_passes, mut fast) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut best = Array2::zeros((0, 0));
        for means in &self.starts {
            let start = self.start(&mixture, means, config.regularisation)?;
            let mut run = Run { log_likelihood: Vec::new(), purity: Vec::new() };
            let (mut z, mut taken) = (start.clone(), 0);
            for &iterations in &config.compared {
                let further = FixedPoint {
                    tolerance: 0.0,
                    max_steps: iterations - taken,
                    ..FixedPoint::default()
                };
                let solution = further.solve(&Exact(&mixture), &z)?;
                run.log_likelihood.push(-solution.free_energy[0] / count);
                run.purity.push(self.purity(&mixture, &solution.z, config.components)?);
                (z, taken) = (solution.z, iterations);
            }
            runs.push(run);

            let engine = FixedPoint {
                tolerance: 0.0,
                energy_tolerance: Some(config.tolerance * count),
                max_steps: config.steps,
                ..FixedPoint::default()
            };
            let plain = engine.solve(&Exact(&mixture), &start)?;
            let anderson = Acceleration::Anderson { memory: config.memory };
            let accelerated = engine.with_acceleration(anderson).solve(&Exact(&mixture), &start)?;
            let end = -plain.free_energy[0] / count;
            if ends.iter().all(|(other, _)| end > *other) {
                let means = mixture.unpack(&plain.z)?.means;
                let (.., components, width) = means.dim();
                best = means.into_shape_with_order((components, width))?;
            }
            ends.push((end, self.purity(&mixture, &plain.z, config.components)?));
            steps.push(plain.steps[0] as f64);
            fast_steps.push(accelerated.steps[0] as f64);
            fast_passes.push(accelerated.evaluations as f64);
            fast.push(-accelerated.free_energy[0] / count);
        }
        let largest_difference = reference.map(|reference| {
            let difference = |at: usize| {
                let pairs = runs.iter().zip(reference);
                let gaps = pairs.map(|(a, b)| (a.log_likelihood[at] - b.log_likelihood[at]).abs());
                gaps.fold(0.0, f64::max)
            };
            (0..config.compared.len()).map(difference).collect()
        });
        let purity_differs = reference.map(|reference| {
            let differs = |(a, b): &(&Run, &Run)| {
                a.purity.iter().zip(&b.purity).any(|(a, b)| (a - b).abs() > 1e-12)
            };
            runs.iter().zip(reference).filter(differs).count()
        });
        let likeliest = ends.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
        let (best_log_likelihood, purity_of_best) = likeliest.ok_or("no seeds")?;
        let converged = Converged {
            log_likelihood: Spread::of(&ends.iter().map(|e| e.0).collect::<Vec<_>>()),
            best_log_likelihood,
            purity: Spread::of(&ends.iter().map(|e| e.1).collect::<Vec<_>>()),
            purity_of_best,
            steps: Spread::of(&steps),
            accelerated_steps: Spread::of(&fast_steps),
            accelerated_evaluations: Spread::of(&fast_passes),
            accelerated_log_likelihood: Spread::of(&fast),
        };
        Ok((Kind { covariance, runs, largest_difference, purity_differs, converged }, best))
    }

    fn k_means(&self, config: &Config) -> Outcome<Vec<Hard>> {
        let k_means = KMeans::new(self.points, config.components)?;
        let engine =
            FixedPoint { tolerance: 0.0, max_steps: config.steps, ..FixedPoint::default() };
        let run = |means: &Array4<f64>| {
            let start: Vec<f64> = means.iter().copied().collect();
            let solution = engine.solve(&Exact(&k_means), &start)?;
            let clusters = k_means.assign(&solution.z)?;
            Ok(Hard {
                inertia: solution.free_energy[0],
                purity: purity(self.labels, clusters, config.components),
            })
        };
        self.starts.iter().map(run).collect()
    }
}

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    let (points, labels) = data::digits()?;
    let starts: Vec<Vec<usize>> = config
        .seeds
        .iter()
        .map(|&seed| Random::new(seed, 0).choose(points.nrows(), config.components))
        .collect();
    let beside = path.with_file_name("reference.json");
    let reference: Option<Reference> = match std::fs::read_to_string(&beside) {
        Ok(text) => Some(serde_json::from_str(&text)?),
        Err(error) => {
            println!("NOT COMPARED with scikit-learn: {}: {error}", beside.display());
            None
        }
    };
    let expand = |rows: Array2<f64>| rows.insert_axis(Dimension(0)).insert_axis(Dimension(0));
    let means = starts.iter().map(|start| expand(points.select(Dimension(0), start))).collect();
    let points = expand(points);
    let digits = Digits { points: points.view(), labels: &labels, starts: means };

    let (mut kinds, mut images) = (Vec::new(), Vec::new());
    for covariance in [Covariance::Spherical, Covariance::Diagonal] {
        let recorded = reference.as_ref().map(|reference| match covariance {
            Covariance::Spherical => &reference.spherical[..],
            Covariance::Diagonal => &reference.diagonal[..],
        });
        let (kind, best) = digits.kind(covariance, &config, recorded)?;
        images.push(best.rows().into_iter().map(|row| row.to_vec()).collect());
        let end = &kind.converged;
        println!(
            "{covariance:?}: log-likelihood per point {:.4} ± {:.4} (best {:.4}), purity {:.3} ± \
             {:.3} (of the best {:.3}), steps {:.0} ± {:.0}, accelerated {:.0} ± {:.0} in {:.0} \
             passes, to {:.4}",
            end.log_likelihood.mean,
            end.log_likelihood.deviation,
            end.best_log_likelihood,
            end.purity.mean,
            end.purity.deviation,
            end.purity_of_best,
            end.steps.mean,
            end.steps.deviation,
            end.accelerated_steps.mean,
            end.accelerated_steps.deviation,
            end.accelerated_evaluations.mean,
            end.accelerated_log_likelihood.mean
        );
        if let (Some(gaps), Some(differs)) = (&kind.largest_difference, kind.purity_differs) {
            for (iterations, gap) in config.compared.iter().zip(gaps) {
                println!("  after {iterations}: within {gap:.1e} of scikit-learn on every start");
            }
            println!("  starts whose purity differs: {differs}");
        }
        kinds.push(kind);
    }
    let k_means = digits.k_means(&config)?;
    let purities: Vec<f64> = k_means.iter().map(|run| run.purity).collect();
    let k_means_purity = Spread::of(&purities);
    let k_means_largest_difference = reference.as_ref().map(|reference| {
        let pairs = k_means.iter().zip(&reference.k_means);
        pairs.map(|(a, b)| (a.inertia - b.inertia).abs() / b.inertia).fold(0.0, f64::max)
    });
    println!(
        "k-means: purity {:.3} ± {:.3}, relative difference of the inertia from scikit-learn {:?}",
        k_means_purity.mean, k_means_purity.deviation, k_means_largest_difference
    );
    let results =
        Results { config, starts, kinds, k_means, k_means_purity, k_means_largest_difference };
    write(path, "picture.svg", &picture(&results, reference.as_ref(), &images))?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))
}

fn picture(results: &Results, reference: Option<&Reference>, images: &[Vec<Vec<f64>>]) -> String {
    let compared = &results.config.compared;
    let chart = |kind: &Kind,
                 theirs: Option<&Vec<Run>>,
                 of: fn(&Run) -> &Vec<f64>,
                 y: &str,
                 title: String| {
        let all = || kind.runs.iter().flat_map(|run| of(run).iter().copied());
        let (low, high) =
            (all().fold(f64::INFINITY, f64::min), all().fold(-f64::INFINITY, f64::max));
        let step = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
            .into_iter()
            .find(|step| (high - low) / step <= 6.0)
            .unwrap_or(50.0);
        let (from, to) = ((low / step).floor() * step, (high / step).ceil() * step);
        let ticks = (0..=((to - from) / step).round() as usize)
            .map(|n| ((from + step * n as f64) * 1e6).round() / 1e6)
            .collect();
        let points = |run: &Run| -> Vec<(f64, f64, f64)> {
            compared.iter().zip(of(run)).map(|(&t, &y)| (t as f64, y, 0.0)).collect()
        };
        let mut lines: Vec<Line> = Vec::new();
        let one = |runs: &[Run], style, name: &str, colour| -> Vec<Line> {
            let named = |(n, run): (usize, &Run)| Line {
                // One name for all of them in the legend.
                name: if n == 0 { name.to_owned() } else { String::new() },
                points: points(run),
                colour,
                style,
            };
            runs.iter().enumerate().map(named).collect()
        };
        lines.extend(one(&kind.runs, Style::Solid, "this library, one line per start", 0));
        if let Some(theirs) = theirs {
            lines.extend(one(theirs, Style::Marks, "scikit-learn from the same starts", 1));
        }
        Chart {
            title,
            x: Axis {
                name: "iterations of EM".into(),
                logarithmic: true,
                from: compared[0] as f64,
                to: compared.last().copied().unwrap_or(1) as f64,
                ticks: compared.iter().map(|&t| t as f64).collect(),
            },
            y: Axis { name: y.into(), logarithmic: false, from, to, ticks },
            lines,
        }
    };
    let mut charts = Vec::new();
    for kind in &results.kinds {
        let (name, theirs) = match kind.covariance {
            Covariance::Spherical => ("Spherical", reference.map(|r| &r.spherical)),
            Covariance::Diagonal => ("Diagonal", reference.map(|r| &r.diagonal)),
        };
        let title = format!("{name}: log-likelihood");
        charts.push(chart(kind, theirs, |run| &run.log_likelihood, "nats per point", title));
        charts.push(chart(kind, theirs, |run| &run.purity, "purity", format!("{name}: purity")));
    }
    draw(&charts, 2, images)
}
