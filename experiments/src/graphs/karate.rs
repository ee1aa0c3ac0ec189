//! Zachary's karate club: who goes with whom, known of the two leaders alone.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use marginals_burn::Graph;

use super::network::Network;
use super::task::Task;
use crate::Outcome;

/// The members whose faction is told, the leaders of the two.
const LABELLED: [usize; 2] = [0, 33];

pub struct Karate {
    graph: Graph,
    factions: Vec<usize>,
    /// The identity: nothing is known of a member but who it is. `[1, N, N]`.
    x: Tensor<3>,
}

impl Karate {
    /// The club in karate-club.csv, each member hearing itself too.
    pub fn read(config: &Path, device: &Device) -> Outcome<Self> {
        let path = config.with_file_name("karate-club.csv");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (factions, pairs) = parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let nodes = factions.len();
        let both = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        let (graph, _) = Graph::new(nodes, &both.collect::<Vec<_>>())?.with_self_loops();
        let x = Tensor::<2>::eye(nodes, device).unsqueeze();
        Ok(Self { graph, factions, x })
    }
}

type Club = (Vec<usize>, Vec<(usize, usize)>);

/// Two tables: members with their factions, and pairs of members.
fn parse(text: &str) -> Outcome<Club> {
    let (mut factions, mut pairs) = (Vec::new(), Vec::new());
    let mut in_pairs = false;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line {
            "member,faction" => {}
            "member,member" => in_pairs = true,
            _ => {
                let (a, b) = line.split_once(',').ok_or_else(|| format!("`{line}`"))?;
                let (a, b): (usize, usize) = (a.parse()?, b.parse()?);
                match in_pairs {
                    true => pairs.push((a, b)),
                    false if a == factions.len() && b < 2 => factions.push(b),
                    false => return Err(format!("`{line}` is no faction").into()),
                }
            }
        }
    }
    match LABELLED.iter().all(|&leader| leader < factions.len()) {
        true => Ok((factions, pairs)),
        false => Err("a leader is missing".into()),
    }
}

impl Task for Karate {
    fn sizes(&self) -> [usize; 2] {
        [self.factions.len(), 2]
    }

    fn outputs(&self, network: &Network) -> Outcome<Tensor<2>> {
        Ok(network.forward(self.x.clone(), &self.graph)?.squeeze_dim(0))
    }

    /// Cross-entropy of the leaders.
    fn loss(&self, network: &Network, _: u64, _: usize) -> Outcome<Tensor<1>> {
        let device = self.x.device();
        let leaders = Tensor::<1, Int>::from_ints(LABELLED.map(|leader| leader as i64), &device);
        let told = LABELLED.map(|leader| [0, 1].map(|f| u8::from(self.factions[leader] == f)));
        let told: Vec<f32> = told.as_flattened().iter().map(|&x| x.into()).collect();
        let told = Tensor::<2>::from_data(TensorData::new(told, [LABELLED.len(), 2]), &device);
        let scores = self.outputs(network)?.select(0, leaders);
        Ok((activation::log_softmax(scores, 1) * told).sum() / -(LABELLED.len() as f32))
    }

    /// Share of the others whose faction is found.
    fn score(&self, network: &Network) -> Outcome<f64> {
        let outputs: Vec<f32> =
            self.outputs(network)?.into_data().try_into_vec().map_err(|e| format!("{e:?}"))?;
        let found = outputs.chunks(2).map(|scores| usize::from(scores[1] > scores[0]));
        let others = found.zip(&self.factions).enumerate();
        let others = others.filter(|(member, _)| !LABELLED.contains(member));
        let right = others.filter(|(_, (found, faction))| found == *faction).count();
        Ok(right as f64 / (self.factions.len() - LABELLED.len()) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_club_is_the_published_one() {
        let text = include_str!("../../graphs/karate-club.csv");
        let (factions, pairs) = parse(text).unwrap();
        assert_eq!((factions.len(), pairs.len()), (34, 78));
        let degree = |n| pairs.iter().filter(|&&(a, b)| a == n || b == n).count();
        // Zachary 1977, figure 1: the instructor met 16 others, the officer 17.
        assert_eq!((degree(0), degree(33), degree(11)), (16, 17, 1));
        assert!(parse("member,faction\n0,7\n").is_err());
        assert!(parse("member,faction\n0,1\n").is_err());
    }
}
