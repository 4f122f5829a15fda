//! Those who look at a load run while it goes on: a terminal, Prometheus, a collector of spans.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::metrics::Served;
use super::screen::Screen;
use super::show;
use super::spans::Spans;
use super::{ENVIRONMENT, Format, USAGE, out};
use redeliver_harness::load::{Follow, Watch};

/// Who looks at a run.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Serve the figures for Prometheus while the run goes on, under /metrics: 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Send the ways of messages as OpenTelemetry spans to a collector (OTLP over HTTP):
    /// http://127.0.0.1:4318
    #[arg(long, value_name = "URL", conflicts_with = "find_max")]
    otlp: Option<String>,
    /// Write a line a second in place of the view that fills a terminal
    #[arg(long)]
    lines: bool,
}

/// All of them, until they are closed.
pub(super) struct Observers {
    screen: Arc<Mutex<Option<Screen>>>,
    served: Option<Arc<Served>>,
    spans: Option<Arc<Mutex<Option<Spans>>>>,
}

impl Observers {
    /// Opens them; the terminal last, when nothing can be refused any more.
    ///
    /// # Errors
    /// An address cannot be listened at, or is none: it was said, and the exit code is given.
    pub(super) fn open(args: &Wanted, format: Format) -> Result<Self, u8> {
        let refuse = |why: &str, code| {
            out::complain(why);
            code
        };
        let served = match args.metrics {
            None => None,
            Some(address) => {
                let served = Served::at(address).map_err(|error| {
                    refuse(&format!("--metrics {address}: {error}"), ENVIRONMENT)
                })?;
                let address = served.address();
                out::complain(&format!("metrics at http://{address}/metrics"));
                Some(Arc::new(served))
            }
        };
        let spans = args.otlp.as_deref().map(Spans::to).transpose();
        let spans = spans.map_err(|why| refuse(&why, USAGE))?;
        let screen = match args.lines {
            true => None,
            false => Screen::take(format),
        };
        Ok(Self {
            screen: Arc::new(Mutex::new(screen)),
            served,
            spans: spans.map(|spans| Arc::new(Mutex::new(Some(spans)))),
        })
    }

    /// Shows them the figures of a run.
    pub(super) fn watch(&self) -> Watch {
        let (screen, served, lines) = (self.screen.clone(), self.served.clone(), show::lines());
        Arc::new(move |figures| {
            match &*screen.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(screen) => screen.show(figures),
                None => lines(figures),
            }
            if let Some(served) = &served {
                served.show(figures);
            }
        })
    }

    /// Shows them its records, where one of them makes spans of these.
    pub(super) fn follow(&self) -> Option<Follow> {
        let spans = self.spans.clone()?;
        Some(Arc::new(move |record| {
            let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(spans) = &mut *spans {
                spans.add(record);
            }
        }))
    }

    /// Gives the terminal back, before anything is said that is to stay, and sends what still waits.
    pub(super) fn close(self) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(spans) = self.spans {
            *spans.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
