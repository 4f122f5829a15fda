//! A web service that takes orders, and charges each of them once.
//!
//! A request writes its order and an event in one transaction. The relay publishes the event, and
//! the consumer `charge` handles it. All three run in this one process; several processes of it
//! may run side by side.

mod config;
mod http;
mod orders;
mod probes;
mod start;
mod stop;

use std::process::ExitCode;

use redeliver::env::live::LiveEnv;
use tokio::net::TcpListener;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use config::{Config, Wrong};
use start::NotStarted;

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed}");
            failed.exit_code()
        }
    }
}

/// Into standard error: standard output is for the one line that says where the service listens.
fn log() {
    // At each start PostgreSQL notices that the tables are there.
    let levels = Targets::new().with_default(LevelFilter::INFO);
    let levels = levels.with_target("sqlx::postgres::notice", LevelFilter::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .init();
}

async fn run() -> Result<(), Failed> {
    let config = Config::read(config::variable)?;
    let stopping = stop::signals().map_err(NotStarted::Signals)?;
    let env = LiveEnv::process(&config.instance, start::incarnation());

    // An address that is taken is noticed before anything is changed.
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| NotStarted::Listen(config.listen, error))?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let service = start::pipeline(&config, &env).await?;
    println!("listening on http://{address}");

    let app = http::App::new(&service, stopping.clone());
    http::serve(listener, app, stopping).await;

    // No request is open any more: nothing is emitted from here on, but by handlers.
    env.request_stop();
    stop::drained(service.running, service.drain).await;
    service.store.close().await;
    Ok(())
}

/// Why the process ends with something else than 0.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Config(#[from] Wrong),
    #[error(transparent)]
    Start(#[from] NotStarted),
}

impl Failed {
    /// To start again helps against 4, and does not against 2.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(2),
            Self::Start(_) => ExitCode::from(4),
        }
    }
}
