//! The operator of a real node.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redeliver_rabbitmq::lapin::LapinAmqp;
use redeliver_sim::broker::{Account, Pattern};

use super::Resource;
use super::node::{AGED, Node};

#[derive(Clone, Copy)]
pub(crate) struct Operator {
    node: &'static Node,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operator").field(&self.node.port()).finish()
    }
}

/// As RabbitMQ's regular expression, in Erlang's notation.
fn expression(pattern: &Pattern) -> String {
    match pattern {
        Pattern::All => "<<\".*\">>".to_owned(),
        Pattern::Expression(expression) => format!("<<{:?}>>", expression.as_str()),
        Pattern::Nothing => "<<\"^$\">>".to_owned(),
        Pattern::Prefix(prefix) => format!("<<\"^{}\">>", prefix.replace('.', "[.]")),
    }
}

impl Operator {
    pub(super) fn new(node: &'static Node) -> Self {
        Self { node }
    }

    /// Back to what a node has by itself.
    pub(super) fn reset(&self) {
        let plenty = "vm_memory_monitor:set_vm_memory_high_watermark({absolute, \"1GB\"}), \
                      rabbit_disk_monitor:set_disk_free_limit(\"50MB\")";
        let minute = Duration::from_secs(60);
        super::Operator::consumer_timeout(self, 30 * minute, minute);
        super::Operator::dead_letter_retry(self, 3 * minute);
        self.node.tell(&format!("{plenty}."));
        self.until_alarmed(false);
    }

    fn until_alarmed(&self, alarmed: bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while self
            .node
            .tell("rabbit:alarms().")
            .contains("resource_limit")
            != alarmed
        {
            assert!(Instant::now() < until, "waited in vain for the alarm");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn set(&self, name: &str, value: Duration) {
        let value = value.as_millis();
        self.node
            .tell(&format!("application:set_env(rabbit, {name}, {value})."));
    }
}

impl super::Operator for Operator {
    type Client = LapinAmqp;

    fn restart(&self) {
        self.node.restart();
    }

    fn kill(&self) {
        // Else the aged queue would not come back.
        std::thread::sleep(self.node.until_aged());
        self.node.kill();
    }

    fn exhaust(&self, resource: Resource, out: bool) {
        let limit = match (resource, out) {
            (Resource::Memory, true) => {
                "vm_memory_monitor:set_vm_memory_high_watermark({absolute, \"1MB\"})."
            }
            (Resource::Memory, false) => {
                "vm_memory_monitor:set_vm_memory_high_watermark({absolute, \"1GB\"})."
            }
            (Resource::Disk, true) => "rabbit_disk_monitor:set_disk_free_limit(\"900000GB\").",
            (Resource::Disk, false) => "rabbit_disk_monitor:set_disk_free_limit(\"50MB\").",
        };
        self.node.tell(limit);
        self.until_alarmed(out);
    }

    fn consumer_timeout(&self, timeout: Duration, tick: Duration) {
        self.set("consumer_timeout", timeout);
        self.set("channel_tick_interval", tick);
    }

    fn dead_letter_retry(&self, every: Duration) {
        self.set("dead_letter_worker_publisher_confirm_timeout", every);
    }

    fn account(&self, name: &str, account: &Account) {
        let user = format!("<<\"{name}\">>");
        let (by, internal) = ("<<\"conformance\">>", "rabbit_auth_backend_internal");
        let access = [&account.configure, &account.write, &account.read];
        let [configure, write, read] = access.map(expression);
        let mut told = format!(
            "case {internal}:exists({user}) of true -> ok; \
             false -> {internal}:add_user({user}, <<\"secret\">>, {by}) end, \
             {internal}:set_permissions({user}, <<\"/\">>, {configure}, {write}, {read}, {by})"
        );
        for (exchange, write, read) in &account.topics {
            let (write, read) = (expression(write), expression(read));
            told += &format!(
                ", {internal}:set_topic_permissions({user}, <<\"/\">>, <<\"{exchange}\">>, \
                 {write}, {read}, {by})"
            );
        }
        self.node.tell(&format!("{told}."));
    }

    fn client(&self, name: &str) -> LapinAmqp {
        let port = self.node.port();
        let url = format!("amqp://{name}:secret@127.0.0.1:{port}/%2f");
        LapinAmqp::new(&url).expect("the URL makes sense")
    }

    async fn aged_queue(&self) -> Arc<str> {
        tokio::time::sleep(self.node.until_aged()).await;
        AGED.into()
    }
}
