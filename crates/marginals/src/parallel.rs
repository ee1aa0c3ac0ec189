//! Tasks by number, over the threads of rayon's current pool.
//!
//! An iterator of rayon's is compiled again for everything that is done with one, a few thousand lines
//! of code in either number format. Tasks are large, and a call through an object costs nothing beside
//! them: here one such iterator serves all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

/// Calls `task` with every number below `count`, one at a time by whoever is free: a core that other
/// programs slow down gets fewer.
fn each(count: usize, task: &(dyn Fn(usize) + Sync)) {
    // Handing a single task to another thread takes longer than small ones do.
    if count == 1 {
        return task(0);
    }
    (0..count).into_par_iter().with_max_len(1).for_each(task);
}

/// Results of `task` at every number below `count`, in order.
pub(crate) fn map<R: Send>(count: usize, task: &(dyn Fn(usize) -> R + Sync)) -> Vec<R> {
    let results: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::new(None)).collect();
    each(count, &|index| {
        let result = task(index);
        *results[index].lock().expect(UNPOISONED) = Some(result);
    });
    let result = |slot: Mutex<Option<R>>| slot.into_inner().expect(UNPOISONED);
    results.into_iter().map(|slot| result(slot).expect("every task has run")).collect()
}

/// Results of `task` at every number below `count`, in order, or the error of the first that failed of
/// those that ran. After an error no task is begun.
pub(crate) fn try_map<R: Send, E: Send>(
    count: usize,
    task: &(dyn Fn(usize) -> Result<R, E> + Sync),
) -> Result<Vec<R>, E> {
    let failed = AtomicBool::new(false);
    let results = map(count, &|index| {
        if failed.load(Ordering::Relaxed) {
            return None;
        }
        let result = task(index);
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        Some(result)
    });
    // What was left out comes with an error, which ends the collection before it matters.
    results.into_iter().flatten().collect()
}

/// Results of `task` for each of `all`, in order.
pub(crate) fn map_each<K: Send, R: Send>(all: Vec<K>, task: &(dyn Fn(K) -> R + Sync)) -> Vec<R> {
    let all = Given::new(all);
    map(all.0.len(), &|index| task(all.take(index)))
}

/// Things that are taken by several threads, each of them once.
struct Given<K>(Vec<Mutex<Option<K>>>);

impl<K> Given<K> {
    fn new(all: Vec<K>) -> Self {
        Self(all.into_iter().map(|one| Mutex::new(Some(one))).collect())
    }

    fn take(&self, index: usize) -> K {
        let own = self.0[index].lock().expect(UNPOISONED).take();
        own.expect("every number comes once")
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn results_are_in_order() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            assert_eq!(map(1000, &|i| i * i), (0..1000).map(|i| i * i).collect::<Vec<_>>());
            let words: Vec<String> = (0..100).map(|i| i.to_string()).collect();
            assert_eq!(map_each(words.clone(), &|word| word), words);
            assert_eq!(try_map(100, &|i| Ok::<_, ()>(i)), Ok((0..100).collect()));
        });
        assert_eq!(map(0, &|i| i), Vec::<usize>::new());
    }

    #[test]
    fn nothing_begins_after_an_error() {
        let ran = AtomicUsize::new(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let result = pool.install(|| {
            try_map(1000, &|i| {
                ran.fetch_add(1, Ordering::Relaxed);
                if i % 2 == 1 { Err(i) } else { Ok(i) }
            })
        });
        assert!(result.is_err_and(|i| i % 2 == 1));
        assert!(ran.into_inner() <= 2);
    }
}
