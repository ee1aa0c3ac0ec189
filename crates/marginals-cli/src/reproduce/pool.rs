//! Independent runs on several threads.
//!
//! Every run computes on one thread of its own, so that its numbers are the same however many run beside
//! it. Were runs tasks of one pool, a thread that waits for a part of its own tensor operation could be
//! given a whole other run in the middle of it.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ReproduceError;

/// Does `work` for every job; results are in the jobs' order. `done` is called after each.
///
/// # Errors
/// That of the first job, in their order, which has one; or that no thread could be started.
pub fn run_all<J: Sync, R: Send>(
    jobs: &[J],
    threads: NonZeroUsize,
    work: impl Fn(&J) -> Result<R, ReproduceError> + Sync,
    done: impl Fn() + Sync,
) -> Result<Vec<R>, ReproduceError> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<R, ReproduceError>>>> =
        jobs.iter().map(|_| Mutex::new(None)).collect();
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
            done();
        }
    };
    let pools: Vec<rayon::ThreadPool> = (0..threads.get().min(jobs.len()))
        .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<Result<_, _>>()
        .map_err(|error| ReproduceError::Threads { threads, reason: error.to_string() })?;
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
            let done = || {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            let found = run_all(&jobs, threads(count), |&job| Ok(job * job), done).unwrap();
            assert_eq!(found, jobs.iter().map(|job| job * job).collect::<Vec<_>>());
            assert_eq!(counted.load(Ordering::Relaxed), 100);
        }
        assert!(run_all(&[0; 0], threads(3), |_| Ok(()), || ()).unwrap().is_empty());
    }

    #[test]
    fn an_error_ends_it() {
        let jobs: Vec<usize> = (0..1000).collect();
        let refuse = |&job: &usize| match job {
            3 => Err(marginals::Error::value("job", "another", job).into()),
            _ => Ok(job),
        };
        let error = run_all(&jobs, threads(2), refuse, || ()).unwrap_err();
        assert!(error.to_string().contains("job"), "{error}");
    }
}
