//! Writing to the outside. A reader that went away (`| head`) is no error; a full disk is.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

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

/// What is kept back while something else has the terminal.
struct Held {
    lines: Vec<String>,
    /// Gives the terminal back.
    restore: Box<dyn FnOnce() + Send>,
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on [`complain`] keeps lines back, since something else has the terminal. `restore` gives
/// it back, once, at [`release`].
pub fn hold(restore: impl FnOnce() + Send + 'static) {
    *held() = Some(Held {
        lines: Vec::new(),
        restore: Box::new(restore),
    });
}

/// The last lines that are kept back.
pub fn last_held(many: usize) -> Vec<String> {
    let held = held();
    let lines = held.as_ref().map_or(&[][..], |held| &held.lines);
    lines[lines.len().saturating_sub(many)..].to_vec()
}

/// Gives the terminal back, and writes what was kept back. Without [`hold`] nothing happens.
pub fn release() {
    let Some(held) = held().take() else { return };
    (held.restore)();
    held.lines.iter().for_each(|line| complain(line));
}

/// Writes a line to standard error, at once, or keeps it back (see [`hold`]).
pub fn complain(text: &str) {
    if let Some(held) = held().as_mut() {
        held.lines.push(text.trim_end().to_owned());
        return;
    }
    let mut stderr = io::stderr().lock();
    // Where nobody reads it, there is nowhere to say so.
    let _ = writeln!(stderr, "{}", text.trim_end()).and_then(|()| stderr.flush());
}

/// Whether colours are wanted there: a terminal, and neither `NO_COLOR` nor a dumb one.
pub fn is_coloured<S: anstream::stream::RawStream>(stream: &S) -> bool {
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
}
