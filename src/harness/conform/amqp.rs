//! Random AMQP programs.

use proptest::prelude::*;

use super::servers::Urls;
use super::{Arm, Failure, Outcome};

/// See the module.
#[derive(Debug)]
pub struct AmqpArm;

impl Arm for AmqpArm {
    const NAME: &'static str = "amqp";
    const OPERATIONS: &'static [&'static str] = &[];
    type Program = ();

    fn programs() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    async fn open(_: &Urls, _: usize) -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn run(&mut self, (): &()) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }

    async fn close(self) {}
}
