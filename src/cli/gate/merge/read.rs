//! The output of one shard, read back.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use redeliver_harness::report::part::{Opening, Part};
use redeliver_harness::run::shard::Shard;

/// What a file holds. A shard that was killed leaves less.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) opening: Opening,
    pub(super) shard: Shard,
    pub(super) parts: Vec<Part>,
    pub(super) closing: Option<Closing>,
    /// Where the file stops being what a gate writes.
    pub(super) damaged: Option<String>,
}

/// What the last line says of all.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Closing {
    pub(super) wall_seconds: f64,
    pub(super) interrupted: bool,
    pub(super) canaries: Sung,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sung {
    pub(super) planted: usize,
    pub(super) silent: Vec<String>,
}

impl Output {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A sentence for what is not the output of a shard at all.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        let first = lines.next().and_then(|(_, line)| read::<Value>(line).ok());
        let opening = first.filter(|line| line["type"] == "shard");
        let opening = opening.and_then(|line| serde_json::from_value::<Opening>(line).ok());
        let shard = opening.as_ref().and_then(Opening::shard);
        let (Some(opening), Some(shard)) = (opening, shard) else {
            return Err(format!(
                "{}: not the output of a shard: its first line says no shard. It is made by \
                 `redeliver gate --shard K/N --format json`",
                path.display()
            ));
        };
        let mut output = Self {
            path: path.to_owned(),
            opening,
            shard,
            parts: Vec::new(),
            closing: None,
            damaged: None,
        };
        for (i, line) in lines {
            if let Err(why) = output.take(line) {
                output.damaged = Some(format!("{}:{}: {why}", path.display(), i + 1));
                break;
            }
        }
        Ok(output)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let value: Value = read(line)?;
        match value["type"].as_str() {
            Some("part") => self.parts.push(of_value(value)?),
            Some("summary") => self.closing = Some(of_value(value)?),
            _ => {}
        }
        Ok(())
    }

    /// Its shard and its file, for people.
    pub(super) fn name(&self) -> String {
        format!("shard {} ({})", self.shard, self.path.display())
    }
}

fn read<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|why| format!("not a line of a report: {why}"))
}

fn of_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|why| format!("of another version, or damaged: {why}"))
}

/// The files at these paths; of a folder all that end in `.ndjson`, however deep.
///
/// # Errors
/// A sentence for a path that is not there, or a folder without any.
pub(super) fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        search(path, &mut files).map_err(|why| format!("{}: {why}", path.display()))?;
        if files.len() == before {
            return Err(format!(
                "no shard's output (*.ndjson) in {}",
                path.display()
            ));
        }
    }
    Ok(files)
}

fn search(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        // A link is not followed: it may lead back.
        if entry.file_type()?.is_dir() {
            search(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "ndjson") {
            files.push(path);
        }
    }
    Ok(())
}
