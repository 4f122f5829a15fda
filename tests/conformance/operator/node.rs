//! A RabbitMQ of this process, which ends with it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The queue that [`super::Operator::aged_queue`] gives.
pub(super) const AGED: &str = "aged";

/// By then a quorum queue has outlived every kill that was tried.
const AGE: Duration = Duration::from_secs(45);

pub(super) struct Node {
    /// The system closes its standard input when this process ends, however it ends; then the
    /// script ends the node.
    _script: Child,
    values: BTreeMap<String, String>,
    started: Instant,
    running: Mutex<Running>,
}

/// The process group of the node, and its leader if it is our child.
struct Running {
    group: u32,
    child: Option<Child>,
}

/// The node, and the right to use it until the guard goes. `None` where no server of one's own is
/// to be had.
pub(super) fn turn() -> Option<(&'static Node, MutexGuard<'static, ()>)> {
    static NODE: OnceLock<Option<Node>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let node = NODE.get_or_init(Node::start).as_ref();
    if node.is_none() {
        let line = "LEFT OUT, NOT TESTED: cases that need a RabbitMQ of their own\n";
        std::io::stderr()
            .write_all(line.as_bytes())
            .expect("stderr can be written");
    }
    Some((node?, turn))
}

impl Node {
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
        let say = "env | grep -E '^(AMQP_URL|REDELIVER_)'; echo; exec cat >/dev/null";
        let mut script = Command::new("bash")
            .args([script, "run", "--only", "rabbitmq", "--no-management"])
            .args(["--", "sh", "-c", say])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let lines = BufReader::new(script.stdout.take().expect("it is piped")).lines();
        let lines = lines.map(|line| line.expect("text"));
        let values: BTreeMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once('=').map(|(k, v)| (k.into(), v.into())))
            .collect();
        // Another backend cannot be killed and controlled in this way.
        let Some(group) = values.get("REDELIVER_RABBITMQ_PID") else {
            script.wait().expect("it is ours");
            return None;
        };
        let group = group.parse().expect("an id");
        let node = Self {
            _script: script,
            values,
            started: Instant::now(),
            running: Mutex::new(Running { group, child: None }),
        };
        let declare = format!(
            "rabbit_amqqueue:declare({{resource, <<\"/\">>, queue, <<\"{AGED}\">>}}, true, false, \
             [{{<<\"x-queue-type\">>, longstr, <<\"quorum\">>}}], none, <<\"conformance\">>)."
        );
        node.tell(&declare);
        Some(node)
    }

    fn value(&self, name: &str) -> &str {
        let value = self.values.get(name);
        value.unwrap_or_else(|| panic!("{name} is not told"))
    }

    pub(super) fn url(&self) -> &str {
        self.value("AMQP_URL")
    }

    pub(super) fn port(&self) -> u16 {
        self.value("REDELIVER_AMQP_PORT").parse().expect("a port")
    }

    /// How long it takes until the aged queue is old enough.
    pub(super) fn until_aged(&self) -> Duration {
        AGE.saturating_sub(self.started.elapsed())
    }

    /// Has the node evaluate an expression, and gives what came out.
    pub(super) fn tell(&self, expression: &str) -> String {
        let mut call = Command::new(self.value("REDELIVER_ERL_CALL"))
            .arg("-e")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("erl_call");
        let mut stdin = call.stdin.take().expect("it is piped");
        // An expression ends with a line.
        writeln!(stdin, "{expression}").expect("it reads");
        drop(stdin);
        let output = call.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("{ok"), "{expression}\n{said}");
        said
    }

    /// Ends the node without a word, and starts it again.
    pub(super) fn kill(&self) {
        let mut running = self.running.lock().expect("no panic");
        let group = format!("-{}", running.group);
        let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        assert!(killed.expect("kill").success());
        if let Some(mut child) = running.child.take() {
            child.wait().expect("it is ours");
        }
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port())).is_ok() {
            assert!(Instant::now() < until, "the node survives");
            std::thread::sleep(Duration::from_millis(20));
        }
        let child = Command::new(self.value("REDELIVER_RABBITMQ_START"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        running.group = child.id();
        running.child = Some(child);
    }
}
