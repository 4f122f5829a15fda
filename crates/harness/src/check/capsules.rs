//! What a failing test leaves behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::CAPSULES_VARIABLE;
use crate::explore::{Kept, Simulate, keep as make_small};
use crate::run::result::RunResult;
use crate::scenario::Scenario;
use crate::story;

/// Runs to make a violated one smaller.
const RUNS: u32 = 300;

/// Nobody waits longer for a red test to say so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a violated run small, writes it into a file, and gives the lines that say where it is and
/// how it is run again.
pub(super) fn keep(
    simulate: Simulate<'_>,
    scenario: &Scenario,
    run: RunResult,
    test: &str,
) -> String {
    let Some(folder) = folder() else {
        return String::new();
    };
    let mut scenario = scenario.clone();
    if scenario.question.is_empty() {
        // One made in a test has none, and a file has to have one.
        scenario.question = format!("What breaks {test}?");
    }
    let Some((kept, late)) = small(simulate, &scenario, run) else {
        return String::new();
    };
    let target = kept.target();
    let name = format!("{test}-{}-{}", target.kind, target.checker);
    let path = folder.join(format!("{}.toml", plain(&name)));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &kept.text));
    if let Err(why) = written {
        return format!("\nno capsule: {}: {why}\n", path.display());
    }
    let (shown, late) = (path.display(), if late { ", out of time" } else { "" });
    format!(
        "\nkept as {shown}\n  {}{late}\n  in a test  Check::scenario(workload, {shown:?}).check()\n  \
         by command YOUR-BINARY replay {}\n",
        kept.summary(),
        story::quoted(&shown.to_string())
    )
}

/// The small run, and whether time was up before it was as small as it gets. A run that would begin
/// too late is answered with an empty one, in which nothing is seen: it is not taken for smaller.
fn small(simulate: Simulate<'_>, scenario: &Scenario, run: RunResult) -> Option<(Kept, bool)> {
    let end = Instant::now() + PATIENCE;
    let hurried = |scenario: &Scenario, seed, record| match Instant::now() < end {
        true => simulate(scenario, seed, record),
        false => RunResult::default(),
    };
    let kept = make_small(&hurried, scenario, run, RUNS)?;
    Some((kept, Instant::now() >= end))
}

/// Where capsules go; none where they are not wanted.
fn folder() -> Option<PathBuf> {
    match std::env::var_os(CAPSULES_VARIABLE) {
        Some(said) if said == "off" => None,
        Some(said) if !said.is_empty() => Some(PathBuf::from(said)),
        _ => Some(target().join("redeliver")),
    }
}

/// Cargo's target directory: the one that the test itself was built into, as
/// `target/PROFILE/deps/TEST` or `target/PROFILE/examples/TEST`.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let within = program.parent().and_then(Path::file_name);
    let by_cargo = within.is_some_and(|name| name == "deps" || name == "examples");
    match program.ancestors().nth(3).filter(|_| by_cargo) {
        Some(target) => target.to_path_buf(),
        None => {
            let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
            PathBuf::from(package).join("target")
        }
    }
}

/// A name that every file system takes.
fn plain(name: &str) -> String {
    let known = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    name.replace("::", "-")
        .replace(|letter| !known(letter), "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_name_becomes_a_file_name() {
        assert_eq!(plain("orders::tests::é a/b"), "orders-tests-__a_b");
    }

    #[test]
    fn capsules_lie_in_the_target_directory() {
        let (found, program) = (target(), std::env::current_exe().expect("this program"));
        let (deps, within) = (found.join("debug/deps"), program.parent());
        assert!(
            within == Some(deps.as_path()) || found.ends_with("target"),
            "{found:?}"
        );
    }
}
