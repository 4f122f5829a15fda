//! A RabbitMQ of this process, which ends with it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use redeliver_private::Broker;

/// The queue that [`super::Operator::aged_queue`] gives.
pub(super) const AGED: &str = "aged";

/// By then a quorum queue has outlived every kill that was tried.
const AGE: Duration = Duration::from_secs(45);

pub(super) struct Node {
    /// The system closes its standard input when this process ends, however it ends; then the
    /// script ends the node.
    _script: Child,
    url: String,
    started: Instant,
    node: Mutex<Broker>,
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
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services");
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
        let url = values.get("AMQP_URL").cloned();
        // Another backend cannot be killed and controlled in this way.
        let (Some(url), Some(node)) = (url, Broker::new(&values)) else {
            script.wait().expect("it is ours");
            return None;
        };
        let node = Self {
            _script: script,
            url,
            started: Instant::now(),
            node: Mutex::new(node),
        };
        let declare = format!(
            "rabbit_amqqueue:declare({{resource, <<\"/\">>, queue, <<\"{AGED}\">>}}, true, false, \
             [{{<<\"x-queue-type\">>, longstr, <<\"quorum\">>}}], none, <<\"conformance\">>)."
        );
        node.tell(&declare);
        Some(node)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn node(&self) -> MutexGuard<'_, Broker> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn port(&self) -> u16 {
        self.node().port()
    }

    /// How long it takes until the aged queue is old enough.
    pub(super) fn until_aged(&self) -> Duration {
        AGE.saturating_sub(self.started.elapsed())
    }

    /// Has the node evaluate an expression, and gives what came out.
    pub(super) fn tell(&self, expression: &str) -> String {
        self.node().tell(expression).expect("the node answers")
    }

    /// Stops the broker in order and starts it again.
    pub(super) fn restart(&self) {
        self.node().restart().expect("the node answers");
    }

    /// Ends the node without a word, and starts it again. What was declared is on disk by then: a
    /// queue is announced when it stands in memory, and its definition reaches the log a little later.
    pub(super) fn kill(&self) {
        self.tell("mnesia:sync_log().");
        self.node().kill().expect("the node can be killed");
    }
}
