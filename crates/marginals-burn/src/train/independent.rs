//! Independent runs on several threads.
//!
//! Every run computes on one thread of its own, so that its numbers are the same however many run beside
//! it. Were runs tasks of one pool, a thread that waits for a part of its own tensor operation could be
//! given a whole other run in the middle of it.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that the system does not give.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} threads: {reason}; ask for fewer")]
pub struct ThreadsError {
    threads: NonZeroUsize,
    reason: String,
}

/// Does `work` for every job; results are in the jobs' order. After an error no further job begins.
///
/// ```
/// use std::num::NonZeroUsize;
/// use marginals_burn::train::{ThreadsError, run_all};
///
/// let two = NonZeroUsize::new(2).unwrap();
/// let squares: Result<Vec<u64>, ThreadsError> = run_all(&[1, 2, 3], two, |&seed| Ok(seed * seed));
/// assert_eq!(squares?, [1, 4, 9]);
/// # Ok::<(), ThreadsError>(())
/// ```
///
/// # Errors
/// That of the first job, in their order, which has one; [`ThreadsError`].
pub fn run_all<J: Sync, R: Send, E: Send + From<ThreadsError>>(
    jobs: &[J],
    threads: NonZeroUsize,
    work: impl Fn(&J) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<R, E>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while let Some((job, place)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(at).zip(results.get(at))
        } {
            let result = work(job);
            if result.is_err() {
                // What has not begun would be for nothing.
                next.store(jobs.len(), Ordering::Relaxed);
            }
            *place.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
        }
    };
    let pools: Vec<rayon::ThreadPool> = (0..threads.get().min(jobs.len()))
        .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<Result<_, _>>()
        .map_err(|error| ThreadsError { threads, reason: error.to_string() })?;
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(worker));
        }
    });
    let taken = results
        .into_iter()
        .filter_map(|place| place.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()));
    taken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn results_are_in_order_at_any_number_of_threads() {
        let jobs: Vec<usize> = (0..100).collect();
        let counted = AtomicUsize::new(0);
        for count in [1, 2, 7, 1000] {
            counted.store(0, Ordering::Relaxed);
            let work = |&job: &usize| -> Result<usize, ThreadsError> {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(job * job)
            };
            let found = run_all(&jobs, threads(count), work).unwrap();
            assert_eq!(found, jobs.iter().map(|job| job * job).collect::<Vec<_>>());
            assert_eq!(counted.load(Ordering::Relaxed), 100);
        }
        let nothing: Result<Vec<()>, ThreadsError> = run_all(&[0; 0], threads(3), |_| Ok(()));
        assert!(nothing.unwrap().is_empty());
    }

    #[test]
    fn an_error_ends_it() {
        let jobs: Vec<usize> = (0..1000).collect();
        let refuse = |&job: &usize| match job {
            3 => Err(Box::<dyn std::error::Error + Send + Sync>::from("not this one")),
            _ => Ok(job),
        };
        let error = run_all(&jobs, threads(2), refuse).unwrap_err();
        assert_eq!(error.to_string(), "not this one");
    }
}
