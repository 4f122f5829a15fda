//! Futures behind a pointer.

use std::future::Future;
use std::pin::Pin;

/// A future behind a pointer.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Puts a future behind a pointer, in the crate that calls this.
///
/// The body of an async function is compiled by whoever polls it, and by each crate that does: a
/// backend whose methods are plain async functions would have its database or broker client compiled
/// again in the harness, in the command line and in each team's tests. A backend therefore boxes what
/// talks to its server: one allocation for each round trip, and compiled once.
pub fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(future)
}
