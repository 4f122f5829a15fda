use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;

use super::{Failure, Log, begin, kill, until_gone};

/// A PostgreSQL that nobody else uses.
#[derive(Debug)]
pub struct Database {
    start: String,
    port: u16,
    data: PathBuf,
    log: Option<PathBuf>,
    /// The postmaster, if we have started it.
    child: Option<Child>,
}

impl Database {
    /// By what `scripts/services` says of it; `None` where it does not say how to control it.
    pub fn new(said: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            start: said.get("REDELIVER_POSTGRES_START")?.clone(),
            port: said.get("REDELIVER_POSTGRES_PORT")?.parse().ok()?,
            data: said.get("REDELIVER_POSTGRES_DATA").map(PathBuf::from)?,
            log: said.get("REDELIVER_POSTGRES_LOG").map(PathBuf::from),
            child: None,
        })
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its log from here on.
    pub fn log(&self) -> Log {
        Log::from_here(self.log.clone())
    }

    /// Ends the server without a word: every session is cut, and what it had not written is lost.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(&mut self) -> Result<(), Failure> {
        kill(&self.postmaster()?.to_string())?;
        if let Some(mut child) = self.child.take() {
            let waited = child.wait();
            waited.map_err(|error| Failure(format!("a killed postmaster: {error}")))?;
        }
        until_gone(self.port, "the postmaster")
    }

    /// Starts a server that was ended; it recovers first.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.child = Some(begin(&self.start)?);
        Ok(())
    }

    /// The postmaster's process. Read anew: somebody else may have killed and started it.
    fn postmaster(&self) -> Result<u32, Failure> {
        let file = self.data.join("postmaster.pid");
        let failed = |why: &str| Failure(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(&file).map_err(|error| failed(&error.to_string()))?;
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        pid.ok_or_else(|| failed("it names no process"))
    }
}
