//! The end: politely once, at once when asked twice.

use std::time::Duration;

use redeliver::pipeline::Running;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Turns true with the first SIGTERM or Ctrl-C. The second ends the process where it stands.
///
/// Call it early: as process 1 of a container, a program without it cannot be told to end.
pub(crate) fn signals() -> std::io::Result<watch::Receiver<bool>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, stopping) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut term, &mut interrupt).await;
        tracing::info!("told to end: requests and work in hand are finished first");
        tell.send_replace(true);
        either(&mut term, &mut interrupt).await;
        // As bad as a crash, and a crash loses nothing: work in hand comes back.
        std::process::exit(1);
    });
    Ok(stopping)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Completes once the process was told to end.
pub(crate) async fn told(mut stopping: watch::Receiver<bool>) {
    // Its sender lives as long as the process does.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Waits for relay and consumers, which were asked to stop.
pub(crate) async fn drained(running: Running, drain: Duration) {
    // Consumers keep to the drain themselves; a little more lets them say so.
    let limit = drain + Duration::from_secs(2);
    match tokio::time::timeout(limit, running.ended()).await {
        Ok(()) => tracing::info!("ended with nothing in hand"),
        Err(_) => tracing::warn!(?limit, "work was still in hand; another process does it"),
    }
}
