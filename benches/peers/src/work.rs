//! The pieces of work and who does each of them.

/// Task of our engine. Every score is q·k / √D.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// The mean, every key equally likely beforehand.
    Mean,
    /// The mean and its gradients in queries, keys and values.
    MeanBackward,
    /// Mean, entropy, KL, log-evidence and MAP in one pass.
    Questions,
    /// The mean over the keys up to the query's own position.
    Causal,
    /// That and its gradients in queries, keys and values.
    CausalBackward,
    /// The mean over the nearest accepted key up to the query's own position.
    NearestAccepted,
    /// That and its gradients in queries, keys and values.
    NearestAcceptedBackward,
    /// The mean under ALiBi's prior in both directions.
    Alibi,
    /// The mean under ALiBi's prior, and the gradients of all, slopes included.
    AlibiBackward,
    /// The mean under a learned bias, and the gradients of all, bias included.
    BiasBackward,
    /// The mean over so many keys up to the query's own position.
    Window(usize),
    /// Log-partition and marginals of scores that are given, over edges that depend on each other.
    Structured(Structured),
    /// Those and the gradient of a weighted sum of the marginals in the scores.
    StructuredBackward(Structured),
    /// The mean and the log-partition of matchings by the entropic dual, of scores so many times the usual ones.
    Transport(u8),
    /// A step of slot attention with so many iterations: the slots from a start, and the gradients of
    /// inputs, start and weights.
    Slots(usize),
}

/// A structure whose edges depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structured {
    /// A chain with transitions.
    Chain,
    /// Projective trees, any number of edges into the root.
    ProjectiveTrees,
    /// Directed trees, projective or not, likewise.
    Trees,
    /// Subsets of so many keys.
    Subsets(usize),
}

/// Which benchmark a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Attention beside PyTorch's.
    Peers,
    /// Edges that depend on each other, beside recursions written in PyTorch.
    Structured,
}

impl Suite {
    /// The word in the names of its files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Structured => "structured",
        }
    }
}

/// Batch 1, so many heads; queries and keys of `dim` numbers each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Attention heads, as many for the keys as for the queries.
    pub heads: usize,
    /// N.
    pub queries: usize,
    /// M.
    pub keys: usize,
    /// D, of queries, keys and values alike.
    pub dim: usize,
}

/// Who our engine is measured against.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// A piece of work the Python worker knows, under its name there.
    Torch {
        /// How a table calls it.
        title: &'static str,
        /// How the worker calls it.
        work: &'static str,
        /// The longest sequence it is asked for; it materialises N × N matrices.
        limit: usize,
    },
    /// Our own engine at another task.
    Ourselves {
        /// How a table calls it.
        title: &'static str,
        /// What it does.
        task: Task,
        /// Whether it computes (part of) the same answer.
        same_answer: bool,
    },
    /// Reading the keys and values once, doing nothing with them.
    StreamingRead,
}

impl Peer {
    /// How a table calls it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Torch { title, .. } | Self::Ourselves { title, .. } => title,
            Self::StreamingRead => "streaming read of keys and values",
        }
    }
}

/// One piece of work, our way of doing it and the others'.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The word that picks it on the command line.
    pub name: &'static str,
    /// How a table calls it.
    pub title: &'static str,
    /// What our engine does.
    pub task: Task,
    /// Who else does it.
    pub peers: &'static [Peer],
    /// Sequence lengths: queries and keys in the full run, then in the quick one.
    lengths: [&'static [(usize, usize)]; 2],
}

impl Case {
    /// The benchmark it belongs to.
    pub fn suite(&self) -> Suite {
        match self.task {
            Task::Structured(_) | Task::StructuredBackward(_) | Task::Transport(_) => {
                Suite::Structured
            }
            _ => Suite::Peers,
        }
    }

    /// The sizes it is measured at.
    pub fn sizes(&self, quick: bool) -> impl Iterator<Item = Size> + use<> {
        let lengths = self.lengths[usize::from(quick)];
        let heads = |queries: usize| match self.task {
            Task::Slots(_) => 1,
            // Instances of a batch, each as a head.
            Task::Structured(Structured::Subsets(_))
            | Task::StructuredBackward(Structured::Subsets(_)) => 1,
            // Long sentences come in smaller batches.
            Task::Structured(Structured::Trees) | Task::StructuredBackward(Structured::Trees)
                if queries > 100 =>
            {
                8
            }
            Task::Structured(Structured::Trees) | Task::StructuredBackward(Structured::Trees) => 64,
            Task::Structured(_) | Task::StructuredBackward(_) => 32,
            _ => 8,
        };
        let size = |&(queries, keys)| Size { heads: heads(queries), queries, keys, dim: 64 };
        lengths.iter().map(size).collect::<Vec<_>>().into_iter()
    }
}

const fn torch(title: &'static str, work: &'static str) -> Peer {
    Peer::Torch { title, work, limit: usize::MAX }
}

const QUICK: &[(usize, usize)] = &[(512, 512), (1024, 1024)];
const GRID: [&[(usize, usize)]; 2] =
    [&[(512, 512), (1024, 1024), (4096, 4096), (8192, 8192)], QUICK];
/// Where both sides hold an N × N matrix per head and its gradient: 8192 would take 2 GB each.
const DENSE_GRID: [&[(usize, usize)]; 2] = [&[(512, 512), (1024, 1024), (4096, 4096)], QUICK];
/// Where our own softmax is what the time is read against.
const STICKS: [&[(usize, usize)]; 2] = [&[(1024, 1024), (4096, 4096)], QUICK];
/// Steps and states.
const CHAIN: [&[(usize, usize)]; 2] = [&[(256, 64)], &[(32, 16)]];
/// Sentences for projective trees, and for any.
const TREES: [&[(usize, usize)]; 2] = [&[(40, 40)], &[(12, 12)]];
const ANY_TREES: [&[(usize, usize)]; 2] = [&[(40, 40), (200, 200)], &[(40, 40)]];
/// Queries and keys.
const SUBSETS: [&[(usize, usize)]; 2] = [&[(1024, 512)], &[(64, 32)]];
const MATCHING: [&[(usize, usize)]; 2] = [&[(1024, 1024)], &[(128, 128)]];
/// Edges of a query in the case of subsets.
const PICKS: usize = 16;
/// Slots and inputs.
const SLOTS: [&[(usize, usize)]; 2] = [&[(8, 4096)], &[(8, 1024)]];
/// The keys a query sees in the window case.
const WINDOW: usize = 256;

/// Every case, in the order in which they run.
pub const CASES: &[Case] = &[
    Case {
        name: "forward",
        title: "forward, mean",
        task: Task::Mean,
        peers: &[torch("SDPA", "sdpa")],
        lengths: GRID,
    },
    Case {
        name: "backward",
        title: "forward + backward, mean",
        task: Task::MeanBackward,
        peers: &[torch("SDPA", "sdpa-backward")],
        lengths: GRID,
    },
    Case {
        name: "questions",
        title: "forward with entropy, KL, evidence and MAP",
        task: Task::Questions,
        peers: &[
            Peer::Ourselves { title: "our mean alone", task: Task::Mean, same_answer: true },
            Peer::Torch { title: "eager", work: "eager-questions", limit: 4096 },
            Peer::Torch { title: "torch.compile", work: "compiled-questions", limit: 4096 },
        ],
        lengths: GRID,
    },
    Case {
        name: "causal",
        title: "causal forward",
        task: Task::Causal,
        peers: &[
            torch("SDPA, is_causal", "sdpa-causal"),
            Peer::Ourselves { title: "our dense pass", task: Task::Mean, same_answer: false },
        ],
        lengths: GRID,
    },
    Case {
        name: "nearest-accepted",
        title: "nearest accepted key (stick-breaking), causal forward",
        task: Task::NearestAccepted,
        peers: &[Peer::Ourselves {
            title: "our causal softmax",
            task: Task::Causal,
            same_answer: false,
        }],
        lengths: STICKS,
    },
    Case {
        name: "nearest-accepted-backward",
        title: "nearest accepted key (stick-breaking), causal forward + backward",
        task: Task::NearestAcceptedBackward,
        peers: &[Peer::Ourselves {
            title: "our causal softmax",
            task: Task::CausalBackward,
            same_answer: false,
        }],
        lengths: STICKS,
    },
    Case {
        name: "alibi",
        title: "ALiBi forward, both directions",
        task: Task::Alibi,
        peers: &[
            torch("SDPA, dense mask", "sdpa-alibi-mask"),
            torch("compiled FlexAttention", "flex-alibi"),
        ],
        lengths: GRID,
    },
    Case {
        name: "slopes",
        title: "learned ALiBi slopes, forward + backward",
        task: Task::AlibiBackward,
        peers: &[torch("SDPA, dense mask", "sdpa-alibi-backward")],
        lengths: [&[(1024, 1024), (4096, 4096)], QUICK],
    },
    Case {
        name: "bias",
        title: "learned dense bias, forward + backward",
        task: Task::BiasBackward,
        peers: &[torch("SDPA, dense mask", "sdpa-bias-backward")],
        lengths: DENSE_GRID,
    },
    Case {
        name: "window",
        title: "causal window of 256 keys, forward",
        task: Task::Window(WINDOW),
        peers: &[
            Peer::Ourselves { title: "our dense pass", task: Task::Mean, same_answer: false },
            torch("SDPA, boolean mask", "sdpa-window-mask"),
            torch("compiled FlexAttention, block mask", "flex-window"),
        ],
        lengths: [&[(8192, 8192)], &[(2048, 2048)]],
    },
    Case {
        name: "cache",
        title: "one query against a long cache",
        task: Task::Mean,
        peers: &[Peer::StreamingRead, torch("SDPA", "sdpa")],
        lengths: [&[(1, 65_536)], &[(1, 8192)]],
    },
    Case {
        name: "slots",
        title: "slot attention, 3 iterations, forward + backward",
        task: Task::Slots(3),
        peers: &[torch("eager", "slots")],
        lengths: SLOTS,
    },
    Case {
        name: "slots-once",
        title: "slot attention, 1 iteration, forward + backward",
        task: Task::Slots(1),
        peers: &[torch("eager", "slots")],
        lengths: SLOTS,
    },
    Case {
        name: "chain",
        title: "chain, log-partition + marginals",
        task: Task::Structured(Structured::Chain),
        peers: &[torch("recursion in PyTorch", "chain")],
        lengths: CHAIN,
    },
    Case {
        name: "chain-backward",
        title: "chain, and gradients through the marginals",
        task: Task::StructuredBackward(Structured::Chain),
        peers: &[torch("recursion in PyTorch", "chain-backward")],
        lengths: CHAIN,
    },
    Case {
        name: "projective-trees",
        title: "projective trees, log-partition + marginals",
        task: Task::Structured(Structured::ProjectiveTrees),
        peers: &[torch("recursion in PyTorch", "projective-trees")],
        lengths: TREES,
    },
    Case {
        name: "projective-trees-backward",
        title: "projective trees, and gradients through the marginals",
        task: Task::StructuredBackward(Structured::ProjectiveTrees),
        peers: &[torch("recursion in PyTorch", "projective-trees-backward")],
        lengths: TREES,
    },
    Case {
        name: "trees",
        title: "directed trees, log-partition + marginals",
        task: Task::Structured(Structured::Trees),
        peers: &[torch("determinants in PyTorch", "trees")],
        lengths: ANY_TREES,
    },
    Case {
        name: "trees-backward",
        title: "directed trees, and gradients through the marginals",
        task: Task::StructuredBackward(Structured::Trees),
        peers: &[torch("determinants in PyTorch", "trees-backward")],
        lengths: ANY_TREES,
    },
    Case {
        name: "subsets",
        title: "subsets of 16 keys, log-partition + marginals",
        task: Task::Structured(Structured::Subsets(PICKS)),
        peers: &[torch("recursion in PyTorch", "subsets")],
        lengths: SUBSETS,
    },
    Case {
        name: "matching",
        title: "matching by transport, mean + log-partition",
        task: Task::Transport(1),
        peers: &[
            torch("POT, `sinkhorn`", "transport"),
            torch("POT, `solve_batch`", "transport-batch"),
        ],
        lengths: MATCHING,
    },
    Case {
        name: "subsets-backward",
        title: "subsets of 16 keys, and gradients through the marginals",
        task: Task::StructuredBackward(Structured::Subsets(PICKS)),
        peers: &[torch("recursion in PyTorch", "subsets-backward")],
        lengths: SUBSETS,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pick_one_case_each() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.name != case.name));
        }
    }
}
