//! Ending runs of the seeded world from outside: at Ctrl-C.
//!
//! A run that is halted says so, and is worth nothing: it is neither counted nor judged. Within the
//! run nobody can see that it will be halted, so the runs that come to their end are the same.

use std::sync::atomic::{AtomicBool, Ordering};

static HALT: AtomicBool = AtomicBool::new(false);

/// Halts all runs of this process, and those that begin until [`clear`].
pub fn request() {
    HALT.store(true, Ordering::Relaxed);
}

/// Lets runs run again: to tell what was found before.
pub fn clear() {
    HALT.store(false, Ordering::Relaxed);
}

/// Whether runs are being halted.
pub fn is_requested() -> bool {
    HALT.load(Ordering::Relaxed)
}

/// What a world looks at.
pub(super) fn flag() -> &'static AtomicBool {
    &HALT
}
