//! Time in cycles, on machines that others use too.

use std::time::Instant;

/// Cycles per second right now: the clock frequency of a shared machine moves by a quarter.
pub fn frequency() -> f64 {
    (0..5).map(|_| chain()).fold(0.0, f64::max)
}

/// From a chain of a thousand squares, each waiting three cycles for the last, and exclusive ors,
/// each one.
fn chain() -> f64 {
    let mut x = std::hint::black_box(3u64);
    let start = Instant::now();
    for _ in 0..1000 {
        x = x.wrapping_mul(x) ^ 5;
    }
    std::hint::black_box(x);
    4000.0 / start.elapsed().as_secs_f64()
}

/// Seconds the processor spent on this thread: neighbours take turns, not time.
#[cfg(unix)]
pub fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Seconds since the first call.
#[cfg(not(unix))]
pub fn processor_time() -> f64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}
