//! What a load run is given, and what it gives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::check::Checked;
use super::figures::Figures;
use super::offer::{Pattern, Rate};
use crate::run::live::LiveOptions;
use crate::scenario::Scenario;
use crate::watch::file::Record;

/// What a load run is given.
#[derive(Clone)]
pub struct LoadOptions {
    /// Servers, name, seed and patience.
    pub live: LiveOptions,
    /// Requests a second.
    pub rate: Rate,
    /// For how long they are sent.
    pub lasts: Duration,
    /// How they are spread over that time.
    pub pattern: Pattern,
    /// How many processes share the sending.
    pub producers: u32,
    /// The file that takes the history. It must not be there yet.
    pub history: PathBuf,
    /// The program that carries out a [`Job`](super::job::Job), and its first arguments.
    pub command: Vec<OsString>,
    /// The commit of the code under test; empty where unknown.
    pub commit: String,
    /// Is shown the figures about once a second.
    pub watch: Watch,
    /// Is shown each record as it is read. Where somebody looks, requests carry traces of their own
    /// (`traceparent`) in their events.
    pub follow: Option<Follow>,
}

/// Is shown the records of a run while it goes on.
pub type Follow = Arc<dyn Fn(&Record) + Send + Sync>;

/// Is shown the figures of a run while it goes on.
pub type Watch = Arc<dyn Fn(&Figures) + Send + Sync>;

impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions")
            .field("live", &self.live)
            .field("rate", &self.rate)
            .field("lasts", &self.lasts)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// What a load run came to.
#[derive(Debug)]
pub struct LoadReport {
    /// The judgement of its file.
    pub checked: Checked,
    /// What could not be removed from the servers, and why.
    pub left_behind: Option<String>,
}

/// Where the history of a run goes unless somebody says otherwise: a file that is not there yet.
pub fn default_history(scenario: &Scenario, name: &str) -> PathBuf {
    let short = name.rsplit('_').next().unwrap_or(name);
    Path::new(&format!("{}-{short}.history", scenario.name)).to_owned()
}
