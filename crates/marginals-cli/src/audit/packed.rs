//! Sparse posteriors in as few bytes as a page can carry.
//!
//! The stream is made of planes of bytes, compressed together (zlib) and written in base 64. With H heads in
//! all and N queries:
//!
//! 1. the level of each head's **column**, the key that most of its queries look at: H × N low bytes, then as
//!    many high bytes; 0 where it is not among the keys;
//! 2. how many other keys each query has: H × N bytes;
//! 3. these keys, from the last to the first, each as the number of keys between it and the one before (for
//!    the first: between it and the last key that there could be): the low bytes of all, then the next bytes;
//! 4. their levels: low bytes, then high bytes.
//!
//! Like bytes lie together, which compresses far better than whole entries one after the other.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use super::sparse::{Entry, HeadLists, LEVELS, SparsePosteriors, probability_of};

/// Bytes that the compressed lists of a report may take; in base 64 they are a third more.
pub const ROOM: usize = 2_800_000;
/// Bytes that the likeliest key of a query takes at most. Every query has that.
const LIKELIEST: usize = 4;
/// Level of compression: planes repeat little, and longer searches find no more.
const LEVEL: u32 = 4;
/// One of so many heads is packed first, to see how many levels fit: compressing is what takes long.
const SAMPLED: usize = 17;

/// Posteriors in the form that the page unpacks.
#[derive(Clone, Debug, Serialize)]
pub struct Packed {
    /// The stream, in base 64.
    #[serde(skip)]
    pub stream: String,
    /// Level of probability 1.
    pub levels: u16,
    /// Keys less probable than this were left out, but for the likeliest of a query.
    pub least: f64,
    /// Share of all mass that the lists hold.
    pub share: f64,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Whether a query may have keys after itself.
    pub ahead: bool,
    /// The column of each head.
    pub columns: Vec<usize>,
}

/// Packs as many keys as there is room for, the most probable of all heads and queries first; `columns` are
/// the heaviest keys of the heads.
pub fn pack(posteriors: &SparsePosteriors, columns: Vec<usize>, room: usize) -> io::Result<Packed> {
    let heads: Vec<&HeadLists> = posteriors.layers.iter().flatten().collect();
    let queries = heads.first().map_or(0, |head| head.lists().count());
    let room = room.max(LIKELIEST * heads.len() * queries);
    let some: Vec<&HeadLists> = heads.iter().copied().step_by(SAMPLED).collect();
    let of_some: Vec<usize> = columns.iter().copied().step_by(SAMPLED).collect();
    let share = room * some.len() / heads.len().max(1);
    let least = Fitted::new(&some, queries, &of_some, share, 0)?.least;
    let Fitted { planes, compressed, least } = Fitted::new(&heads, queries, &columns, room, least)?;
    let mass: f64 = planes.levels().map(probability_of).sum();
    Ok(Packed {
        stream: STANDARD.encode(&compressed),
        levels: LEVELS,
        least: probability_of(least).max(super::sparse::LEAST),
        share: mass / (heads.len() * queries).max(1) as f64,
        key_bytes: planes.key_bytes,
        ahead: planes.ahead,
        columns,
    })
}

/// Planes that fit into some room.
struct Fitted {
    planes: Planes,
    compressed: Vec<u8>,
    /// The lowest level that they hold, but for the likeliest key of a query.
    least: u16,
}

impl Fitted {
    /// The planes of the levels from `least` on, or from the lowest above it that fits.
    fn new(
        heads: &[&HeadLists],
        queries: usize,
        columns: &[usize],
        room: usize,
        mut least: u16,
    ) -> io::Result<Self> {
        let mut counts = [0; LEVELS as usize + 1];
        let entries = heads.iter().flat_map(|head| head.lists()).flatten();
        entries.for_each(|&(_, level)| counts[usize::from(level)] += 1);
        // Levels from `least` on hold at most so many entries.
        let from = |most: usize| {
            let mut sum = 0;
            let fits = |&level: &u16| {
                sum += counts[usize::from(level)];
                sum <= most
            };
            (0..=LEVELS).rev().take_while(fits).last().unwrap_or(LEVELS)
        };
        loop {
            let planes = Planes::of(heads, queries, columns, least);
            let compressed = planes.compressed()?;
            if compressed.len() <= room || least == LEVELS {
                return Ok(Self { planes, compressed, least });
            }
            let entries = planes.levels().filter(|level| *level > 0).count();
            let fitting = entries as f64 * room as f64 / compressed.len() as f64;
            least = from((0.98 * fitting) as usize).max(least + 1);
        }
    }
}

/// The planes before they are compressed.
#[derive(Default)]
struct Planes {
    column: Vec<u16>,
    counts: Vec<u8>,
    gaps: Vec<u32>,
    others: Vec<u16>,
    key_bytes: usize,
    ahead: bool,
}

impl Planes {
    fn of(heads: &[&HeadLists], queries: usize, columns: &[usize], least: u16) -> Self {
        let behind = |(query, list): (usize, &[Entry])| list.iter().all(|e| e.0 as usize <= query);
        let ahead = !heads.iter().all(|head| head.lists().enumerate().all(behind));
        let mut planes = Self { ahead, ..Self::default() };
        let mut others: Vec<Entry> = Vec::new();
        for (head, &column) in heads.iter().zip(columns) {
            for (query, list) in head.lists().enumerate() {
                let chosen = list
                    .iter()
                    .enumerate()
                    .filter(|(place, entry)| *place == 0 || entry.1 >= least)
                    .map(|(_, entry)| *entry);
                let mut at_column = 0;
                others.clear();
                for (key, level) in chosen {
                    match key as usize == column {
                        true => at_column = level,
                        false => others.push((key, level)),
                    }
                }
                others.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.0));
                planes.column.push(at_column);
                planes.counts.push(others.len() as u8);
                let mut last = if ahead { queries } else { query + 1 } as u32;
                for &(key, level) in &others {
                    planes.gaps.push(last - key - 1);
                    planes.others.push(level);
                    last = key;
                }
            }
        }
        let widest = planes.gaps.iter().copied().max().unwrap_or(0);
        planes.key_bytes = (4 - widest.leading_zeros() as usize / 8).max(1);
        planes
    }

    fn levels(&self) -> impl Iterator<Item = u16> {
        self.column.iter().chain(&self.others).copied()
    }

    fn compressed(&self) -> io::Result<Vec<u8>> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
        let halves = |levels: &[u16]| -> Vec<u8> {
            let part = |shift: u32| levels.iter().map(move |level| (level >> shift) as u8);
            part(0).chain(part(8)).collect()
        };
        encoder.write_all(&halves(&self.column))?;
        encoder.write_all(&self.counts)?;
        for byte in 0..self.key_bytes {
            let plane: Vec<u8> = self.gaps.iter().map(|gap| (gap >> (8 * byte)) as u8).collect();
            encoder.write_all(&plane)?;
        }
        encoder.write_all(&halves(&self.others))?;
        encoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;

    /// Lists of a head that looks at key 0 most of all, from numbers that look random.
    fn scattered(queries: u32, keys: u32) -> HeadLists {
        let mut head = HeadLists::default();
        let mut state = 1u64;
        for query in 0..queries {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u32
            };
            let mut list: Vec<Entry> = (0..keys)
                .map(|_| (random() % (query + 1), 23 + (random() % 400) as u16))
                .chain([(0, 900)])
                .collect();
            list.sort_unstable();
            list.dedup_by_key(|entry| entry.0);
            list.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.1));
            head.push(list.into_iter());
        }
        head
    }

    /// The lists of a stream, sorted by key: another reading of the description above.
    fn unpacked(packed: &Packed, queries: usize) -> Vec<Vec<Entry>> {
        let mut bytes = Vec::new();
        let compressed = STANDARD.decode(&packed.stream).unwrap();
        ZlibDecoder::new(&compressed[..]).read_to_end(&mut bytes).unwrap();
        let lists = packed.columns.len() * queries;
        let (low, rest) = bytes.split_at(lists);
        let (high, rest) = rest.split_at(lists);
        let (counts, rest) = rest.split_at(lists);
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let plane = |index: usize| &rest[index * total..(index + 1) * total];
        let level = |low: u8, high: u8| u16::from(low) + 256 * u16::from(high);
        let mut at = 0;
        (0..lists)
            .map(|list| {
                let mut entries = Vec::new();
                let mut last = if packed.ahead { queries } else { list % queries + 1 } as u32;
                for _ in 0..counts[list] {
                    let bytes = (0..packed.key_bytes).map(|b| u32::from(plane(b)[at]) << (8 * b));
                    last -= bytes.sum::<u32>() + 1;
                    let [low, high] = [0, 1].map(|half| plane(packed.key_bytes + half)[at]);
                    entries.push((last, level(low, high)));
                    at += 1;
                }
                if level(low[list], high[list]) > 0 {
                    entries.push((
                        packed.columns[list / queries] as u32,
                        level(low[list], high[list]),
                    ));
                }
                entries.sort_unstable();
                entries
            })
            .collect()
    }

    fn posteriors(heads: &[HeadLists]) -> SparsePosteriors {
        let mut posteriors = SparsePosteriors::new(heads.len(), 1, 1);
        posteriors.layers.push(heads.to_vec());
        posteriors
    }

    fn sorted(list: &[Entry]) -> Vec<Entry> {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    }

    #[test]
    fn with_room_all_that_went_in_comes_out() {
        let mut looks_ahead = HeadLists::default();
        (0..300).for_each(|query| looks_ahead.push([(299 - query, 1000)].into_iter()));
        for heads in
            [vec![scattered(300, 9), scattered(300, 2)], vec![scattered(300, 5), looks_ahead]]
        {
            let packed = pack(&posteriors(&heads), vec![0, 7], ROOM).unwrap();
            let expected: Vec<Vec<Entry>> =
                heads.iter().flat_map(|head| head.lists().map(sorted)).collect();
            assert_eq!(unpacked(&packed, 300), expected);
        }
    }

    #[test]
    fn without_room_the_likeliest_are_kept_and_the_share_is_said() {
        let (queries, room) = (3000, 40_000);
        let head = scattered(queries, 40);
        let packed = pack(&posteriors(std::slice::from_ref(&head)), vec![0], room).unwrap();
        assert!(packed.stream.len() * 3 / 4 <= room, "{}", packed.stream.len());
        assert!(packed.stream.len() * 3 / 4 > room * 3 / 4, "{}", packed.stream.len());
        let lists = unpacked(&packed, queries as usize);
        let mut mass = 0.0;
        for (kept, all) in lists.iter().zip(head.lists()) {
            let likely =
                |entry: &&Entry| probability_of(entry.1) >= packed.least || **entry == all[0];
            assert_eq!(*kept, sorted(&all.iter().filter(likely).copied().collect::<Vec<_>>()));
            mass += kept.iter().map(|entry| probability_of(entry.1)).sum::<f64>();
        }
        assert!((packed.share - mass / f64::from(queries)).abs() < 1e-9);
    }

    #[test]
    fn every_query_keeps_its_likeliest_key() {
        let mut head = HeadLists::default();
        (0..501).for_each(|query| {
            head.push([(500 - query, 40), ((501 - query) % 501, 23)].into_iter());
        });
        let packed = pack(&posteriors(&[head]), vec![0], 1).unwrap();
        let lists = unpacked(&packed, 501);
        assert!(lists.iter().zip(0..).all(|(list, query)| list.contains(&(500 - query, 40))));
    }
}
