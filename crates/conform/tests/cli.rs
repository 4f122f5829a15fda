//! The program: help, usage errors and exit codes.

#[test]
fn help_and_usage() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd");
}
