//! For Redeliver's own tests against real servers: where the servers are, names, and waits.

use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The bound of every wait. Generous: it is only met when something hangs.
pub const BOUND: Duration = Duration::from_secs(30);

/// The address of a server from the environment variable `name`.
///
/// Without it the calling test is left out, loudly; with `REDELIVER_REQUIRE_SERVICES=1` it fails.
pub fn server(name: &str) -> Option<String> {
    if let Ok(address) = std::env::var(name) {
        return Some(address);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var("REDELIVER_REQUIRE_SERVICES").as_deref() != Ok("1"),
        "{name} is not set, and REDELIVER_REQUIRE_SERVICES=1 says that it must be"
    );
    // Not eprintln!: the test harness would swallow it.
    let line = format!("LEFT OUT, NOT TESTED: {test} ({name} IS NOT SET)\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr can be written");
    None
}

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::new_v4().simple())
}

/// Waits for `work` for at most [`BOUND`].
pub async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, work).await {
        Ok(out) => out,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Tries again until `attempt` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(out) = attempt().await {
            return out;
        }
        assert!(start.elapsed() < BOUND, "waited in vain for {what}");
        // Between two looks at a condition, not instead of one.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
