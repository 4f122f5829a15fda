//! The program as a child process, and just enough HTTP to talk to it.

use std::io;
use std::process::{ExitStatus, Stdio};

use redeliver_testing::{bounded, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Status and body.
pub(crate) type Answer = (u16, String);

/// The program, to be started: nothing of it outlives the test.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_redeliver-service"));
    program.env("LISTEN", "127.0.0.1:0").kill_on_drop(true);
    program
}

/// The service, running.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(namespace: &str) -> Self {
        let mut program = program();
        let program = program.env("NAMESPACE", namespace).stdout(Stdio::piped());
        let mut child = program.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = bounded("its address", { lines }.next_line()).await;
        let address = address.expect("it is text").expect("it listens");
        let address = address.strip_prefix("listening on http://");
        let address = address.expect("an address").to_owned();
        eventually("readiness", || async {
            let answer = get(&address, "/readyz").await;
            answer.is_ok_and(|(status, _)| status == 200).then_some(())
        })
        .await;
        Self { child, address }
    }

    /// SIGKILL: it finishes nothing.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.expect("kill is there").success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = bounded("the end of the process", self.child.wait()).await;
        ended.expect("it is a child of ours")
    }
}

pub(crate) async fn get(address: &str, path: &str) -> io::Result<Answer> {
    ask(address, &format!("GET {path}"), "").await
}

pub(crate) async fn place(address: &str, order: &str, cents: i64) -> io::Result<Answer> {
    let body = format!("{{\"order\": \"{order}\", \"cents\": {cents}}}");
    ask(address, "POST /orders", &body).await
}

/// One request on a connection of its own. An error means that there was no answer.
pub(crate) async fn ask(address: &str, what: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let answer = status.zip(body.map(str::to_owned));
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
