//! For those who work on Redeliver: are the models right? Random programs run on the real servers,
//! and then on the models: the question is whether the model can explain what the real server's
//! clients saw.
//!
//! Each arm ([`amqp`], [`sql`], [`store`]) knows one kind of program. [`driver`] makes programs
//! from a seed, runs them in lanes, and shrinks the first that diverges to a minimal one, which
//! then becomes a case of the conformance suite.
//!
//! The real server runs first, since it is the one that is right. What may legally differ is
//! stated as rules beside each arm's comparison, never as a loose comparison.

pub mod amqp;
pub mod driver;
pub mod probe;
pub mod servers;
pub mod sql;
pub mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use proptest::strategy::BoxedStrategy;

/// A kind of random program, and how it runs on both.
///
/// An arm belongs to one lane, a thread with a current-thread runtime of its own: nothing of it
/// has to be `Send`. Names of what it creates on the server are unique to it.
pub trait Arm: Sized {
    /// `amqp`, `sql` or `store`.
    const NAME: &'static str;

    /// Every kind of operation: each must have succeeded at least once in a run, or the run counts
    /// for nothing.
    const OPERATIONS: &'static [&'static str];

    /// A program; shown with `{:#?}` where it diverges.
    type Program: Clone + fmt::Debug;

    /// All programs.
    fn programs() -> BoxedStrategy<Self::Program>;

    /// Connects a lane to its server.
    ///
    /// # Errors
    /// The server does not answer.
    fn open(servers: &servers::Urls, lane: usize) -> impl Future<Output = Result<Self, Failure>>;

    /// Runs a program on the server, then on the model, and compares. Leaves nothing behind on
    /// the server.
    ///
    /// # Errors
    /// Only where the comparison could not be made, never for a divergence.
    fn run(&mut self, program: &Self::Program) -> impl Future<Output = Result<Outcome, Failure>>;

    /// Removes what the lane has made.
    fn close(self) -> impl Future<Output = ()>;
}

/// The server could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<redeliver_private::Failure> for Failure {
    fn from(failure: redeliver_private::Failure) -> Self {
        Self(failure.0)
    }
}

/// What came of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How often an operation of each kind succeeded, by [`Arm::OPERATIONS`].
    pub succeeded: BTreeMap<&'static str, u64>,
    /// Where real server and model part, if they do.
    pub divergence: Option<Divergence>,
}

/// Where the real server and the model part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The number of the step, from 0.
    pub step: usize,
    /// The operation.
    pub operation: String,
    /// What the real server's clients saw.
    pub real: String,
    /// What the model allows.
    pub model: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}: {}", self.step, self.operation)?;
        writeln!(f, "  real   {}", self.real)?;
        write!(f, "  model  {}", self.model)
    }
}
