//! Futures behind a pointer.

use std::future::Future;
use std::pin::Pin;

/// A future behind a pointer.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Puts a future behind a pointer, in the crate that calls this.
///
/// Each crate that polls an async function compiles its body. With plain async functions in a backend,
/// the harness, the command line and each team's tests would compile its database or broker client
/// again. A backend therefore boxes the futures that talk to its server. The price is one allocation
/// for each round trip.
pub fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(future)
}
