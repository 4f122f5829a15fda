use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// A server's log, from a moment on.
#[derive(Clone, Debug)]
pub struct Log {
    path: Option<PathBuf>,
    from: u64,
}

impl Log {
    /// From the end that it has now.
    pub(super) fn from_here(path: Option<PathBuf>) -> Self {
        let length = path.as_ref().and_then(|path| path.metadata().ok());
        Self {
            from: length.map_or(0, |it| it.len()),
            path,
        }
    }

    /// The first line since then that holds one of these texts; none where there is none, or no log.
    pub fn find(&self, texts: &[&str]) -> Option<String> {
        let mut file = File::open(self.path.as_ref()?).ok()?;
        file.seek(SeekFrom::Start(self.from)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let told = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = told.lines();
        let line = lines.find(|line| texts.iter().any(|text| line.contains(text)));
        line.map(|line| line.trim().to_owned())
    }
}
