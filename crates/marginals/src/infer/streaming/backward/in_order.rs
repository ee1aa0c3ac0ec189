//! Tasks handed out in order, and sums over them that need not keep every part.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::Real;
use ndarray::{Array4, ArrayViewMut4};

use crate::{Error, parallel};

/// Runs every task, the next in line by whoever is free: a core that other programs slow down gets
/// fewer, and those at work are always on neighbouring tasks. Results are in the tasks' order.
pub(super) fn run<K: Send, R: Send>(
    tasks: Vec<K>,
    run: impl Fn(K) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let count = tasks.len();
    let line = Mutex::new(tasks.into_iter().enumerate());
    let next = || line.lock().expect("taking the next task does not panic").next();
    let results = parallel::try_map(count, &|_| {
        next().map(|(index, task)| Ok::<_, Error>((index, run(task)?))).transpose()
    });
    let mut results: Vec<(usize, R)> = results?.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// A tensor that several tasks each give a part of.
///
/// Parts are added in their order, so that the sum does not depend on who was first; one that is
/// early waits. Where tasks are handed out in order few are, and what is held is the parts of the
/// tasks at work, not of all of them.
pub(super) struct InOrder<'a, T> {
    total: ArrayViewMut4<'a, T>,
    parts: usize,
    done: usize,
    early: BTreeMap<usize, Array4<T>>,
}

impl<'a, T: Real> InOrder<'a, T> {
    /// `total`, which holds zeros, as the sum of `parts` parts.
    pub fn new(total: ArrayViewMut4<'a, T>, parts: usize) -> Mutex<Self> {
        Mutex::new(Self { total, parts, done: 0, early: BTreeMap::new() })
    }

    fn add(&mut self, part: usize, gradient: Array4<T>) {
        self.early.insert(part, gradient);
        while let Some(gradient) = self.early.remove(&self.done) {
            self.total += &gradient;
            self.done += 1;
        }
    }
}

/// Calls `make` with zeros to write part number `part` to, and adds them to `sum`.
pub(super) fn add_part<T: Real, R>(
    sum: &Mutex<InOrder<'_, T>>,
    part: usize,
    make: impl FnOnce(ArrayViewMut4<'_, T>) -> R,
) -> R {
    const UNPOISONED: &str = "adding a part does not panic";
    let mut locked = sum.lock().expect(UNPOISONED);
    if locked.parts == 1 {
        // Nobody else adds to it: the part is the sum.
        let total = locked.total.view_mut();
        return make(total);
    }
    let size = locked.total.raw_dim();
    drop(locked);
    let mut gradient = Array4::zeros(size);
    let result = make(gradient.view_mut());
    sum.lock().expect(UNPOISONED).add(part, gradient);
    result
}
