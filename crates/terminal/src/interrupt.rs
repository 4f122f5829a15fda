//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::out;

/// A signal that comes so soon after the first is the same one: `timeout`, shells and CI runners
/// send it to the process and to its group.
const ECHO: Duration = Duration::from_secs(1);

/// The exit code of a program that has found out nothing.
const INCONCLUSIVE: i32 = 3;

/// A signal ends the process at once, as inconclusive: nothing is known before the end.
pub fn end_at_once() {
    let handler = || {
        out::complain("stopped before there was anything to show");
        std::process::exit(INCONCLUSIVE);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        out::complain(&format!("Ctrl-C will end this without a word: {error}"));
    }
}

/// At the first signal `stop` is set and `tell` called; another one ends the process.
pub fn on_first(stop: &Arc<AtomicBool>, tell: impl Fn() + Send + 'static) {
    let stop = stop.clone();
    let mut first: Option<Instant> = None;
    let handler = move || match first {
        Some(first) if first.elapsed() < ECHO => {}
        Some(_) => {
            out::release();
            std::process::exit(130)
        }
        None => {
            first = Some(Instant::now());
            stop.store(true, Ordering::Relaxed);
            tell();
        }
    };
    // Without a handler Ctrl-C ends the process at once, which is no reason not to run.
    if let Err(error) = ctrlc::set_handler(handler) {
        out::complain(&format!("Ctrl-C will end this at once: {error}"));
    }
}
