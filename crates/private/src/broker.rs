use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Failure, Log, begin, kill, until_gone};

/// A RabbitMQ node that nobody else uses.
#[derive(Debug)]
pub struct Broker {
    erl_call: String,
    start: String,
    port: u16,
    log: Option<PathBuf>,
    /// The node's process, if we have started it.
    child: Option<Child>,
}

impl Broker {
    /// By what `scripts/services` says of it; `None` where it does not say how to control it: with
    /// another backend, or for a server of somebody else.
    pub fn new(said: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            erl_call: said.get("REDELIVER_ERL_CALL")?.clone(),
            start: said.get("REDELIVER_RABBITMQ_START")?.clone(),
            port: said.get("REDELIVER_AMQP_PORT")?.parse().ok()?,
            log: said.get("REDELIVER_RABBITMQ_LOG").map(PathBuf::from),
            child: None,
        })
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its log from here on.
    pub fn log(&self) -> Log {
        Log::from_here(self.log.clone())
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
    /// As [`Broker::tell`].
    pub fn restart(&self) -> Result<(), Failure> {
        self.tell("rabbit:stop(), rabbit:start().").map(drop)
    }

    /// Stops the broker in order; the node stays.
    ///
    /// # Errors
    /// As [`Broker::tell`].
    pub fn stop(&self) -> Result<(), Failure> {
        self.tell("rabbit:stop().").map(drop)
    }

    /// Starts a broker that was stopped.
    ///
    /// # Errors
    /// As [`Broker::tell`].
    pub fn start(&self) -> Result<(), Failure> {
        self.tell("rabbit:start().").map(drop)
    }

    /// Raises the memory alarm, which blocks publishers, or takes it back.
    ///
    /// # Errors
    /// As [`Broker::tell`].
    pub fn alarm(&self, raised: bool) -> Result<(), Failure> {
        let expression = match raised {
            true => "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).",
            false => "rabbit_alarm:clear_alarm({resource_limit, memory, node()}).",
        };
        self.tell(expression).map(drop)
    }

    /// Ends the node without a word, and starts it again, which then takes some seconds.
    ///
    /// # Errors
    /// It cannot be ended, or not be started.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.end()?;
        self.begin()
    }

    /// Ends the node without a word.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(&mut self) -> Result<(), Failure> {
        kill(&format!("-{}", self.group()?))?;
        self.reap()?;
        until_gone(self.port, "the node")
    }

    /// Starts a node that was ended, which then takes some seconds.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.child = Some(begin(&self.start)?);
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            let waited = child.wait();
            waited.map_err(|error| Failure(format!("a killed node: {error}")))?;
        }
        Ok(())
    }

    /// The process group of the node, which it leads or its script does. Asked anew: somebody else
    /// may have killed and started it.
    fn group(&self) -> Result<u32, Failure> {
        let said = self.tell("os:getpid().")?;
        let unknown = || Failure(format!("{said:?} tells no process of the node"));
        let pid: String = said.chars().filter(char::is_ascii_digit).collect();
        let listed = Command::new("ps")
            .args(["-o", "pgid=", "-p", &pid])
            .output()
            .map_err(|error| Failure(format!("ps: {error}")))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.trim().parse().map_err(|_| unknown())
    }
}
