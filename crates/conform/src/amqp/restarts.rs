//! Programs in the middle of which the broker is restarted or killed.
//!
//! They have a quota of their own, since each takes seconds, and one lane, since all lanes share
//! the node. Only private nodes are restarted.

use proptest::strategy::BoxedStrategy;
use redeliver_sim::broker::Bent;

use super::{AmqpArm, Bendable, Program, strategy};
use crate::servers::Urls;
use crate::{Arm, Failure, Outcome};
use redeliver_private::Broker;

/// Runs AMQP programs with restarts on both sides.
#[derive(Debug)]
pub struct RestartArm(AmqpArm);

impl Bendable for RestartArm {
    fn bend(&mut self, bent: Bent) {
        self.0.bend(bent);
    }
}

impl Arm for RestartArm {
    const NAME: &'static str = "restart";
    /// All others are [`AmqpArm`]'s to show.
    const OPERATIONS: &'static [&'static str] = &["restart", "kill"];
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        strategy::programs_with_restart()
    }

    async fn open(servers: &Urls, lane: usize) -> Result<Self, Failure> {
        let node = Broker::new(&servers.private).ok_or_else(|| {
            let why = "a broker is restarted only where scripts/services has started it, from the \
                       distribution's packages";
            Failure(why.to_owned())
        })?;
        let mut arm = AmqpArm::open(servers, lane).await?;
        arm.node = Some(node);
        Ok(Self(arm))
    }

    async fn run(&mut self, program: &Program) -> Result<Outcome, Failure> {
        self.0.run(program).await
    }

    async fn close(self) {
        self.0.close().await;
    }
}
