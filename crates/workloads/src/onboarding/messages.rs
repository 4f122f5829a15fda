//! The messages of `onboarding`, of four domains and so of four exchanges.

use serde::{Deserialize, Serialize};

use super::machine::{Fact, Finding, Outcome};
use redeliver_core::event::{Kind, Message};

/// A message that the state machine listens to.
pub trait Tells: Message {
    /// What it tells.
    fn fact(&self) -> Fact;
}

macro_rules! message {
    ($type:ident, $name:literal, $kind:ident) => {
        impl Message for $type {
            const TYPE: &'static str = $name;
            const KIND: Kind = Kind::$kind;

            fn key(&self) -> String {
                self.customer.clone()
            }
        }
    };
}

/// A customer has signed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedUp {
    /// Who.
    pub customer: String,
    /// In hundredths: how much there is about them that a verification finds doubtful.
    pub doubt: u8,
}

message!(SignedUp, "customer.signed_up", Fact);

impl Tells for SignedUp {
    fn fact(&self) -> Fact {
        Fact::SignedUp
    }
}

/// A customer is to be asked for documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentsRequested {
    /// Who.
    pub customer: String,
}

message!(DocumentsRequested, "documents.requested", Command);

/// All documents of a customer are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentsReceived {
    /// Whose.
    pub customer: String,
}

message!(DocumentsReceived, "documents.received", Fact);

impl Tells for DocumentsReceived {
    fn fact(&self) -> Fact {
        Fact::Documents
    }
}

/// A customer is to be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRequested {
    /// Who.
    pub customer: String,
    /// See [`SignedUp::doubt`].
    pub doubt: u8,
    /// Which round this is, from 1.
    pub round: u32,
}

message!(VerificationRequested, "verification.requested", Command);

/// A customer is who they say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationPassed {
    /// Who.
    pub customer: String,
    /// In which round.
    pub round: u32,
}

message!(VerificationPassed, "verification.passed", Fact);

impl Tells for VerificationPassed {
    fn fact(&self) -> Fact {
        Fact::Found(Finding {
            round: self.round,
            outcome: Outcome::Passed,
        })
    }
}

/// A customer could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationFailed {
    /// Who.
    pub customer: String,
    /// In which round.
    pub round: u32,
    /// Whether another round follows.
    pub again: bool,
}

message!(VerificationFailed, "verification.failed", Fact);

impl Tells for VerificationFailed {
    fn fact(&self) -> Fact {
        let outcome = if self.again {
            Outcome::Unclear
        } else {
            Outcome::Failed
        };
        Fact::Found(Finding {
            round: self.round,
            outcome,
        })
    }
}

/// The welcome parcel is to be shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentRequested {
    /// To whom.
    pub customer: String,
}

message!(FulfilmentRequested, "fulfilment.requested", Command);

/// The welcome parcel was shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentShipped {
    /// To whom.
    pub customer: String,
}

message!(FulfilmentShipped, "fulfilment.shipped", Fact);

impl Tells for FulfilmentShipped {
    fn fact(&self) -> Fact {
        Fact::Shipped
    }
}
