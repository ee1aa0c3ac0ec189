//! Relations between the tokens of one text, and the functions of edges that measures average.

use std::collections::HashMap;
use std::ops::Range;

use marginals::infer::EdgeFunction;
use marginals::{Block, TileMut};
use marginals_burn::{Tokens, Visible};
use unicode_categories::UnicodeCategories;

use super::distance_prior::Distances;
use super::head::NEIGHBOURHOOD;

/// A measure that only some queries take part in is known where at least so many do.
pub const FEWEST_QUERIES: usize = 8;

/// Relations of the tokens of one text, as the queries of one model see them.
#[derive(Debug)]
pub struct Relations {
    /// Distances, and the priors of them that are fitted.
    pub distances: Distances,
    /// Tokens that the tokenizer added after the first.
    pub separators: Vec<usize>,
    /// Tokens that are nothing but punctuation.
    pub punctuation: Vec<usize>,
    /// Queries that see another occurrence of their token, if they are enough.
    pub duplicate_queries: Option<usize>,
    /// Queries that see what comes after another occurrence of their token, if they are enough.
    pub induction_queries: Option<usize>,
    /// Queries that see the token after them.
    pub next_token_queries: usize,
    nodes: usize,
    by_offset: Vec<ByOffset>,
    duplicates: Occurrences,
    after_duplicates: Occurrences,
}

/// Sums over queries of the expectations of the functions of edges.
#[derive(Debug)]
pub struct Sums {
    /// Σ p d.
    pub distance: f64,
    /// Σ p log(1 + d).
    pub logarithm: f64,
    /// On the token before.
    pub previous_token: f64,
    /// On the token after.
    pub next_token: f64,
    /// Within [`NEIGHBOURHOOD`] positions.
    pub neighbours: f64,
    /// On other occurrences of the query's token.
    pub duplicates: f64,
    /// On what comes after those.
    pub induction: f64,
    /// Within each of the reaches of the windows.
    pub within: Vec<f64>,
}

impl Relations {
    /// Of a text and its tokens.
    pub fn new(text: &str, tokens: &Tokens, visible: Visible) -> Self {
        let nodes = tokens.len();
        let distances = Distances::new(nodes, visible);
        let within = |reach: usize| {
            ByOffset::new(nodes, |behind| f64::from(u8::from(behind.unsigned_abs() <= reach)))
        };
        let exactly =
            |offset| ByOffset::new(nodes, move |behind| f64::from(u8::from(behind == offset)));
        let logarithms = distances.logarithms();
        let mut by_offset = vec![
            ByOffset::new(nodes, |behind| behind.unsigned_abs() as f64),
            ByOffset::new(nodes, |behind| logarithms[behind.unsigned_abs()]),
            exactly(1),
            exactly(-1),
            within(NEIGHBOURHOOD),
        ];
        // The neighbourhood is one of the windows; short texts have fewer of those.
        let wider = distances.reaches().iter().filter(|&&reach| reach != NEIGHBOURHOOD);
        by_offset.extend(wider.map(|&reach| within(reach)));
        let duplicates = Occurrences::new(&tokens.ids, 0);
        let after_duplicates = Occurrences { shift: 1, ..duplicates.clone() };
        let enough = |occurrences: &Occurrences| {
            let sees = |query: &usize| {
                let visible = distances.visible(*query);
                occurrences.of(*query).any(|key| visible.contains(&key))
            };
            Some((0..nodes).filter(sees).count()).filter(|&count| count >= FEWEST_QUERIES)
        };
        let added = |&index: &usize| tokens.spans[index].is_empty();
        Self {
            separators: (1..nodes).filter(added).collect(),
            punctuation: (0..nodes)
                .filter(|&index| is_punctuation(written(text, tokens, index)))
                .collect(),
            duplicate_queries: enough(&duplicates),
            induction_queries: enough(&after_duplicates),
            next_token_queries: match visible.sees_ahead() {
                true => nodes - 1,
                false => 0,
            },
            distances,
            nodes,
            by_offset,
            duplicates,
            after_duplicates,
        }
    }

    /// Tokens that are neither the first, nor the last, nor added, nor punctuation.
    pub fn words(&self) -> impl Iterator<Item = usize> {
        let inner = 1..self.nodes.max(1) - 1;
        inner.filter(|token| {
            [&self.separators, &self.punctuation]
                .iter()
                .all(|own| own.binary_search(token).is_err())
        })
    }

    /// Which keys a query may pick.
    pub fn visible(&self) -> Visible {
        self.distances.visible
    }

    /// Functions of edges, in the order that [`Self::sums`] reads.
    pub fn functions(&self) -> Vec<&dyn EdgeFunction<f32>> {
        let by_offset = self.by_offset.iter().map(|function| function as &dyn EdgeFunction<f32>);
        let occurrences: [&dyn EdgeFunction<f32>; 2] = [&self.duplicates, &self.after_duplicates];
        occurrences.into_iter().chain(by_offset).collect()
    }

    /// Names what the functions' sums over queries are.
    pub fn sums(&self, functions: &[f64]) -> Sums {
        let [duplicates, induction, distance, logarithm, previous_token, next_token, neighbours] =
            *functions.first_chunk().expect("one sum for every function");
        let mut wider = functions[7..].iter();
        let within = self.distances.reaches().iter().map(|&reach| match reach {
            NEIGHBOURHOOD => neighbours,
            _ => *wider.next().expect("one sum for every window"),
        });
        let within = within.collect();
        Sums {
            distance,
            logarithm,
            previous_token,
            next_token,
            neighbours,
            duplicates,
            induction,
            within,
        }
    }

    /// Number of tokens.
    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Part of the text that a token covers; of a part of a character, all of it.
fn written<'t>(text: &'t str, tokens: &Tokens, index: usize) -> &'t str {
    let span = &tokens.spans[index];
    match span.is_empty() {
        true => "",
        false => {
            let (start, end) = (text.floor_char_boundary(span.start), span.end.min(text.len()));
            &text[start..text.ceil_char_boundary(end)]
        }
    }
}

/// Whether a text is punctuation and nothing else beside white space: Unicode's categories P, and ASCII's
/// signs, as BERT's tokenizers have it.
fn is_punctuation(text: &str) -> bool {
    let text = text.trim();
    let mark = |c: char| c.is_ascii_punctuation() || UnicodeCategories::is_punctuation(c);
    !text.is_empty() && text.chars().all(mark)
}

/// Function of how far the key lies behind the query, by tile as copies out of one table.
#[derive(Debug)]
struct ByOffset {
    /// Values by key − query, from −(N − 1) on.
    values: Vec<f32>,
    /// Places of the values that are not 0, and of those between them.
    live: Range<usize>,
    nodes: usize,
}

impl ByOffset {
    fn new(nodes: usize, of: impl Fn(isize) -> f64) -> Self {
        let last = nodes as isize - 1;
        let values: Vec<f32> = (-last..=last).map(|ahead| of(-ahead) as f32).collect();
        let is_live = |value: &f32| *value != 0.0;
        let live = match (values.iter().position(is_live), values.iter().rposition(is_live)) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        };
        Self { values, live, nodes }
    }
}

impl EdgeFunction<f32> for ByOffset {
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let Range { start: first, end } = block.queries;
        let before = self.nodes - 1;
        // Of the first query the nearest to the text's beginning, of the last the farthest from it.
        let start = (self.live.start + first).saturating_sub(before).max(block.keys.start);
        let end = (self.live.end + end).saturating_sub(before + 1).min(block.keys.end);
        start..end.max(start)
    }

    fn fill(&self, block: &Block, mut values: TileMut<'_, f32>) {
        for (row, query) in block.queries.clone().enumerate() {
            let start = block.keys.start + self.nodes - 1 - query;
            let table = &self.values[start..start + block.keys.len()];
            values.row_mut(row)[..table.len()].copy_from_slice(table);
        }
    }
}

/// Whether a key stands a number of places after another occurrence of the query's token.
#[derive(Clone, Debug)]
struct Occurrences {
    /// Positions of each kind of token, ascending.
    positions: Vec<Vec<usize>>,
    /// Kind of the token at each position.
    kinds: Vec<usize>,
    shift: usize,
}

impl Occurrences {
    fn new(ids: &[u32], shift: usize) -> Self {
        let mut known: HashMap<u32, usize> = HashMap::new();
        let mut positions: Vec<Vec<usize>> = Vec::new();
        let mut kinds = Vec::with_capacity(ids.len());
        for (position, &id) in ids.iter().enumerate() {
            let kind = *known.entry(id).or_insert(positions.len());
            if kind == positions.len() {
                positions.push(Vec::new());
            }
            positions[kind].push(position);
            kinds.push(kind);
        }
        Self { positions, kinds, shift }
    }

    /// The keys of a query.
    fn of(&self, query: usize) -> impl Iterator<Item = usize> {
        let (nodes, shift) = (self.kinds.len(), self.shift);
        let others = self.positions[self.kinds[query]].iter().filter(move |&&at| at != query);
        others.map(move |at| at + shift).filter(move |&key| key < nodes)
    }
}

impl EdgeFunction<f32> for Occurrences {
    fn fill(&self, block: &Block, mut values: TileMut<'_, f32>) {
        let keys = &block.keys;
        for (row, query) in block.queries.clone().enumerate() {
            let row = values.row_mut(row);
            row.fill(0.0);
            let positions = &self.positions[self.kinds[query]];
            let first = positions.partition_point(|&at| at + self.shift < keys.start);
            for &at in &positions[first..] {
                let key = at + self.shift;
                if key >= keys.end {
                    break;
                }
                if at != query {
                    row[key - keys.start] = 1.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32], spans: Vec<std::ops::Range<usize>>) -> Tokens {
        Tokens {
            ids: ids.to_vec(),
            type_ids: vec![0; ids.len()],
            spans,
            pieces: vec![String::new(); ids.len()],
            of: ids.len(),
        }
    }

    #[test]
    fn punctuation_is_what_unicode_and_ascii_say() {
        for mark in [",", " .", "--", "”", "«", "…\n", "$", "_", "—", "。", "¿"] {
            assert!(is_punctuation(mark), "{mark}");
        }
        // A vowel sign and a virama are parts of words.
        for other in ["", " ", "\n", "a.", "1", "é", "€", "्", "ा", "'s", "東"] {
            assert!(!is_punctuation(other), "{other}");
        }
    }

    #[test]
    fn a_part_of_a_character_stands_for_it() {
        let text = "a—b";
        let bytes = tokens(&[97, 0xe2, 0x80, 0x94, 98], (0..5).map(|at| at..at + 1).collect());
        let relations = Relations::new(text, &bytes, Visible::Before);
        assert_eq!(relations.punctuation, [1, 2, 3]);
        assert!(relations.separators.is_empty());
    }

    #[test]
    fn tokens_that_were_added_are_separators_but_for_the_first() {
        let tokens = tokens(&[1, 5, 2, 6, 2], vec![0..0, 0..1, 1..1, 1..2, 2..2]);
        let relations = Relations::new(".b", &tokens, Visible::All);
        assert_eq!(
            (&relations.separators[..], &relations.punctuation[..]),
            (&[2, 4][..], &[1][..])
        );
        assert_eq!(relations.words().collect::<Vec<_>>(), [3]);
    }

    /// Every function over every cut of the matrix, against its definition edge by edge.
    #[test]
    fn tiles_are_cut_out_of_the_same_matrix() {
        let ids: Vec<u32> = (0..13).map(|at| [3, 1, 4, 1, 5, 1, 1][at % 7]).collect();
        let nodes = ids.len();
        let spans = (0..nodes).map(|at| at..at + 1).collect();
        let relations = Relations::new("aaaaaaaaaaaaa", &tokens(&ids, spans), Visible::All);
        let yes = |holds: bool| f32::from(u8::from(holds));
        let expected = |place: usize, i: usize, j: usize| {
            let distance = i.abs_diff(j);
            match place {
                0 => yes(i != j && ids[i] == ids[j]),
                1 => yes(j > 0 && j - 1 != i && ids[j - 1] == ids[i]),
                2 => distance as f32,
                3 => (1.0 + distance as f64).ln() as f32,
                4 => yes(j + 1 == i),
                5 => yes(j == i + 1),
                6 => yes(distance <= 4),
                _ => yes(distance <= [0, 1, 2, 8][place - 7]),
            }
        };
        let functions = relations.functions();
        assert_eq!(functions.len(), 11);
        for (queries, keys) in [(0..13, 0..13), (2..7, 5..6), (7..13, 3..13), (0..1, 12..13)] {
            let positions = marginals::Positions::default();
            let (rows, columns) = (queries.len(), keys.len());
            let block = Block { batch: 0, head: 0, queries, keys, positions };
            for (place, function) in functions.iter().enumerate() {
                let stride = columns + 3;
                let mut values = vec![f32::NAN; rows * stride];
                function.fill(&block, TileMut::new(&mut values, rows, columns, stride));
                let live = function.live_keys(&block);
                let within = block.keys.start <= live.start && live.end <= block.keys.end;
                assert!(live.is_empty() || within, "{place}: {live:?} of {:?}", block.keys);
                let mut needed = vec![false; columns];
                for (r, i) in block.queries.clone().enumerate() {
                    for (c, j) in block.keys.clone().enumerate() {
                        let wanted = expected(place, i, j);
                        assert_eq!(values[r * stride + c], wanted, "{place} {i} {j}");
                        assert!(wanted == 0.0 || live.contains(&j), "{place} {i} {j}: {live:?}");
                        needed[c] |= wanted != 0.0;
                    }
                }
                // Of functions of the offset no more than that: windows would cost as much as the matrix.
                let needed = needed.iter().filter(|needed| **needed).count();
                assert!(place < 3 || live.len() == needed, "{place}: {live:?}");
            }
        }
        let sums: Vec<f64> = (0..11).map(f64::from).collect();
        assert_eq!(relations.sums(&sums).within, [7.0, 8.0, 9.0, 6.0, 10.0]);
    }

    #[test]
    fn measures_of_few_queries_are_unknown() {
        // Query 5 of a decoder sees the token after its first occurrence, and so do those after it.
        let ids: Vec<u32> = (0..5).chain(0..8).collect();
        let of = |count: usize, visible| {
            let spans = (0..count).map(|at| at..at + 1).collect();
            let relations = Relations::new("aaaaaaaaaaaaa", &tokens(&ids[..count], spans), visible);
            (relations.duplicate_queries, relations.induction_queries)
        };
        assert_eq!(of(12, Visible::Before), (None, None));
        assert_eq!(of(13, Visible::Before), (None, None));
        assert_eq!(of(13, Visible::All), (Some(10), Some(10)));
        let same = |count: usize| {
            let spans = (0..count).map(|at| at..at + 1).collect();
            let relations =
                Relations::new("aaaaaaaaaaaaa", &tokens(&vec![1; count], spans), Visible::Before);
            (relations.duplicate_queries, relations.induction_queries)
        };
        assert_eq!(same(9), (Some(8), Some(8)));
        assert_eq!(same(8), (None, None));
    }
}
