//! The built-in binary: help, usage errors and exit codes.

#[test]
fn help_and_usage() {
    // Wherever these tests run, what they call does not.
    trycmd::TestCases::new()
        .env("GITHUB_ACTIONS", "")
        .case("tests/cli/*.trycmd");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_redeliver"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
