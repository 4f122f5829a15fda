//! A program that cannot start says why, in one sentence, and never shows a password.

use std::net::TcpListener;
use std::process::Output;

use redeliver_testing::bounded;
use tokio::process::Command;

use crate::child::program;

async fn output(program: &mut Command) -> Output {
    let output = bounded("the end of the program", program.output()).await;
    output.expect("the program starts")
}

#[tokio::test]
async fn a_variable_that_is_missing_is_named() {
    let mut program = program();
    let program = program.env("DATABASE_URL", "postgres://shop:hunter2@localhost/shop");
    let output = output(program.env_remove("AMQP_URL")).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("AMQP_URL is not set"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_the_start() {
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let closed = closed.expect("a port");
    let mut program = program();
    let program = program
        .env(
            "DATABASE_URL",
            format!("postgres://shop:hunter2@{closed}/shop"),
        )
        .env("AMQP_URL", format!("amqp://shop:hunter2@{closed}/%2f"));
    let output = output(program).await;
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the database cannot be reached"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
