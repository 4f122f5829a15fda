//! One clock for all processes of a run.

use std::time::{Duration, Instant};

/// The machine's monotonic clock, in nanoseconds: one for all processes.
pub(super) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The start of a run as this process's clock has it.
pub(super) fn started(at: u64) -> Instant {
    let since = Duration::from_nanos(monotonic().saturating_sub(at));
    let now = Instant::now();
    now.checked_sub(since).unwrap_or(now)
}
