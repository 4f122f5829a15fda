//! The real servers that the models are held to: given, or private ones of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Failure;
use redeliver_core::secret::Secret;

/// The script that starts private servers; it is `scripts/services` of the repository.
const SCRIPT: &str = include_str!("../../../scripts/services");

/// Where the servers are, and how to reach what stands around them.
#[derive(Clone, Debug)]
pub struct Urls {
    /// URL of the broker, with its password.
    pub amqp: Secret,
    /// URL of the database, with its password.
    pub database: Secret,
    /// What the script said of private servers (`REDELIVER_RABBITMQCTL` and so on); empty for
    /// servers of somebody else, which are never restarted.
    pub private: BTreeMap<String, String>,
}

impl Default for Urls {
    fn default() -> Self {
        Self {
            amqp: Secret::new(""),
            database: Secret::new(""),
            private: BTreeMap::new(),
        }
    }
}

/// Private servers. They end when this is dropped, and with this process at the latest.
#[derive(Debug)]
pub struct Private {
    folder: PathBuf,
    /// Where they are.
    pub urls: Urls,
}

impl Private {
    /// Starts them, which takes some seconds.
    ///
    /// # Errors
    /// The script's own words, where no server is to be had here.
    pub fn start() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("redeliver-conform-{}", std::process::id()));
        let io = |error: std::io::Error| Failure(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(io)?;
        std::fs::write(folder.join("services"), SCRIPT).map_err(io)?;
        let mut private = Self {
            folder: folder.clone(),
            urls: Urls::default(),
        };
        let pid = std::process::id().to_string();
        let start = ["start", "--profile", "fast", "--owner", &pid];
        private.script(&start)?;
        let state = std::fs::read_to_string(folder.join("state")).map_err(io)?;
        let lines = state.lines().filter_map(|line| line.split_once('='));
        let values: BTreeMap<String, String> = lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let url = |name: &str| {
            values
                .get(name)
                .map_or_else(|| Secret::new(""), Secret::new)
        };
        private.urls = Urls {
            amqp: url("AMQP_URL"),
            database: url("DATABASE_URL"),
            private: values,
        };
        Ok(private)
    }

    fn script(&self, arguments: &[&str]) -> Result<(), Failure> {
        let output = Command::new("bash")
            .arg(self.folder.join("services"))
            .args(arguments)
            .arg("--state")
            .arg(self.folder.join("state"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure(format!("bash: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure(format!(
            "private servers could not be started; give --amqp-url and --database-url, or see:\n{}",
            said.trim_end()
        )))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What cannot be stopped now is cleared away by the next start of the script.
        let _ = self.script(&["stop"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
