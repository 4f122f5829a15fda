//! Writing to the outside. A reader that went away (`| head`) is no error; a full disk is.

use std::io::{self, Write};
use std::sync::OnceLock;

/// Why something could not be written to standard output.
static FAILURE: OnceLock<String> = OnceLock::new();

/// Why something could not be written to standard output, if so.
pub fn failure() -> Option<&'static str> {
    FAILURE.get().map(String::as_str)
}

/// Standard output, buffered by whoever calls: each call is written and flushed.
#[derive(Debug, Default)]
pub struct Out {
    gone: bool,
}

impl Out {
    /// Writes text as it is. After the first failure nothing more is written: a verdict does not
    /// depend on its reader.
    pub fn text(&mut self, text: &str) {
        if self.gone {
            return;
        }
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        if let Err(why) = written {
            self.gone = true;
            if why.kind() != io::ErrorKind::BrokenPipe {
                FAILURE.get_or_init(|| why.to_string());
            }
        }
    }

    /// Writes a line.
    pub fn line(&mut self, line: &str) {
        self.text(&format!("{line}\n"));
    }
}

/// Writes a line to standard error, at once.
pub fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    // Where nobody reads it, there is nowhere to say so.
    let _ = writeln!(stderr, "{}", text.trim_end()).and_then(|()| stderr.flush());
}

/// Whether colours are wanted there: a terminal, and neither `NO_COLOR` nor a dumb one.
pub fn is_coloured<S: anstream::stream::RawStream>(stream: &S) -> bool {
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
}
