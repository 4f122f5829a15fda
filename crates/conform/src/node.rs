//! A private RabbitMQ that may be stopped, killed and told what to do.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;

/// How long a node may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// A node that nobody else uses, by what `scripts/services` says of it.
#[derive(Debug)]
pub struct Node {
    erl_call: String,
    start: String,
    port: u16,
    /// The node's process, if we have started it.
    child: Option<Child>,
}

impl Node {
    /// `None` where the script does not say how to control it: with another backend, or for a
    /// server of somebody else.
    pub fn new(said: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            erl_call: said.get("REDELIVER_ERL_CALL")?.clone(),
            start: said.get("REDELIVER_RABBITMQ_START")?.clone(),
            port: said.get("REDELIVER_AMQP_PORT")?.parse().ok()?,
            child: None,
        })
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has the node evaluate an Erlang expression, and gives what came out.
    ///
    /// # Errors
    /// The node does not answer, or the expression fails there.
    pub fn tell(&self, expression: &str) -> Result<String, Failure> {
        let io = |error: std::io::Error| Failure(format!("{}: {error}", self.erl_call));
        let mut call = Command::new(&self.erl_call)
            .arg("-e")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(io)?;
        if let Some(mut stdin) = call.stdin.take() {
            // An expression ends with a line.
            writeln!(stdin, "{expression}").map_err(io)?;
        }
        let output = call.wait_with_output().map_err(io)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match said.starts_with("{ok") {
            true => Ok(said),
            false => Err(Failure(format!("the node says {said:?} to {expression}"))),
        }
    }

    /// Stops the broker in order and starts it again.
    ///
    /// # Errors
    /// As [`Node::tell`].
    pub fn restart(&self) -> Result<(), Failure> {
        self.tell("rabbit:stop(), rabbit:start().").map(drop)
    }

    /// Ends the node without a word, and starts it again, which then takes some seconds.
    ///
    /// # Errors
    /// It cannot be ended, or not be started.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let io = |error: std::io::Error| Failure(format!("a killed node: {error}"));
        let group = format!("-{}", self.group()?);
        let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        if !killed.map_err(io)?.success() {
            return Err(Failure(format!("process group {group} cannot be killed")));
        }
        if let Some(mut child) = self.child.take() {
            child.wait().map_err(io)?;
        }
        let until = Instant::now() + GONE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            if Instant::now() > until {
                return Err(Failure("the node survives a kill".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let child = Command::new(&self.start)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        self.child = Some(child);
        Ok(())
    }

    /// The process group of the node, which it leads or its script does. Asked anew: somebody else
    /// may have killed and started it.
    fn group(&self) -> Result<u32, Failure> {
        let unknown = |what: &str| Failure(format!("{what:?} tells no process of the node"));
        let said = self.tell("os:getpid().")?;
        let pid: String = said.chars().filter(char::is_ascii_digit).collect();
        let listed = Command::new("ps")
            .args(["-o", "pgid=", "-p", &pid])
            .output()
            .map_err(|error| Failure(format!("ps: {error}")))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.trim().parse().map_err(|_| unknown(&said))
    }
}
