//! Capsules in a folder: one is never written over another, nor over what somebody has added to it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Files of one name that are tried.
const MOST: u32 = 1_000;

/// Writes a capsule into a folder under this name, or the same with a number; gives its file. One
/// that holds the same run already is left as it is.
///
/// # Errors
/// With the path and what the system said.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let failed = |path: &Path, why: std::io::Error| format!("{}: {why}", path.display());
    fs::create_dir_all(folder).map_err(|why| failed(folder, why))?;
    for number in 1..=MOST {
        let path = folder.join(match number {
            1 => format!("{name}.toml"),
            _ => format!("{name}-{number}.toml"),
        });
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        match made {
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes());
                return written
                    .map(|()| path.clone())
                    .map_err(|why| failed(&path, why));
            }
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {
                if fs::read_to_string(&path).is_ok_and(|there| holds(&there, text)) {
                    return Ok(path);
                }
            }
            Err(why) => return Err(failed(&path, why)),
        }
    }
    Err(format!(
        "{}: it has {MOST} capsules named {name}",
        folder.display()
    ))
}

/// Whether a file says all that a capsule says, whatever else it says: a remark, or that the failure
/// is known. The commit does not count.
fn holds(there: &str, capsule: &str) -> bool {
    let mut there = there.lines().map(str::trim);
    let counts = |line: &&str| {
        !line.is_empty() && !line.starts_with(['#', '[']) && !line.starts_with("commit")
    };
    let mut wanted = capsule.lines().map(str::trim).filter(counts);
    wanted.all(|line| there.any(|found| found == line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# one\nquestion = \"?\"\n\n[capsule]\ncommit = \"a\"\nseed = 3\n";

    #[test]
    fn what_is_there_stays() {
        let folder =
            std::env::temp_dir().join(format!("redeliver-capsules-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let write = |text: &str| write(&folder, "x-1", text).expect("it is written");
        let first = write(TEXT);
        let known = format!(
            "{}\n[known]\nticket = \"T-1\"\n",
            TEXT.replace("\"a\"", "\"b\"")
        );
        fs::write(&first, &known).expect("it is marked");
        assert_eq!(write(TEXT), first, "the same run");
        assert_eq!(fs::read_to_string(&first).ok().as_ref(), Some(&known));
        let other = write(&TEXT.replace("seed = 3", "seed = 4"));
        assert_eq!(other, folder.join("x-1-2.toml"));
        fs::remove_dir_all(&folder).expect("it goes");
    }
}
