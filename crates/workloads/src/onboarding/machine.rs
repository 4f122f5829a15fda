//! The state machine of an onboarding. Pure: facts in, states out.
//!
//! ```text
//!                     ┌─ documents ─► documented ─ passed ─┐
//! (sign-up) ─► applied                    │                ├─► cleared ─ shipped ─► active
//!                 │   └─ passed ────► verified ─ documents ┘
//!                 │                       │
//!                 └── failed ──► rejected ◄── failed (from documented)
//! ```
//!
//! Facts come in any order, and more than once. So what was heard of a customer is collected in
//! [`Heard`], where a later finding is never replaced by an earlier one, and the state follows
//! from that collection: however the same facts arrive, the end is the same.

use serde::{Deserialize, Serialize};

/// Something that happened to a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The customer has signed up.
    SignedUp,
    /// All documents are there.
    Documents,
    /// A round of the verification has ended.
    Found(Finding),
    /// The welcome parcel was shipped.
    Shipped,
}

/// What a round of the verification has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// From 1. A later round replaces what an earlier one has found.
    pub round: u32,
    /// What it has found.
    pub outcome: Outcome,
}

/// See [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The customer is who they say. Final.
    Passed,
    /// Another round is needed.
    Unclear,
    /// The customer is not who they say. Final.
    Failed,
}

/// What was heard of a customer so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// See [`Fact::SignedUp`].
    pub signed_up: bool,
    /// See [`Fact::Documents`].
    pub documents: bool,
    /// The finding of the latest round heard of.
    pub finding: Option<Finding>,
    /// See [`Fact::Shipped`].
    pub shipped: bool,
}

impl Heard {
    /// With one more fact.
    #[must_use]
    pub fn and(mut self, fact: Fact) -> Self {
        match fact {
            Fact::SignedUp => self.signed_up = true,
            Fact::Documents => self.documents = true,
            Fact::Shipped => self.shipped = true,
            Fact::Found(new) => {
                if self.finding.is_none_or(|old| old.round < new.round) {
                    self.finding = Some(new);
                }
            }
        }
        self
    }

    fn outcome(&self) -> Option<Outcome> {
        self.finding.map(|finding| finding.outcome)
    }
}

/// Where an onboarding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The customer has asked.
    Applied,
    /// The documents came first.
    Documented,
    /// The verification was passed first.
    Verified,
    /// Both are there.
    Cleared,
    /// The parcel is on its way. An end.
    Active,
    /// The verification was failed. An end.
    Rejected,
}

/// All legal transitions, by name; from the empty name at the start.
pub const TRANSITIONS: &[(&str, &str)] = &[
    ("", "applied"),
    ("applied", "documented"),
    ("applied", "verified"),
    ("applied", "rejected"),
    ("documented", "cleared"),
    ("documented", "rejected"),
    ("verified", "cleared"),
    ("cleared", "active"),
];

impl State {
    /// Its name in the audit trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Documented => "documented",
            Self::Verified => "verified",
            Self::Cleared => "cleared",
            Self::Active => "active",
            Self::Rejected => "rejected",
        }
    }

    /// The reverse of [`State::as_str`].
    pub fn parse(name: &str) -> Option<Self> {
        use State::{Active, Applied, Cleared, Documented, Rejected, Verified};
        [Applied, Documented, Verified, Cleared, Active, Rejected]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// The next state, if what it needs was heard.
    pub fn next(self, heard: &Heard) -> Option<Self> {
        if !heard.signed_up {
            return None;
        }
        match (self, heard.outcome()) {
            (Self::Applied | Self::Documented, Some(Outcome::Failed)) => Some(Self::Rejected),
            (Self::Applied, _) if heard.documents => Some(Self::Documented),
            (Self::Applied, Some(Outcome::Passed)) => Some(Self::Verified),
            (Self::Documented, Some(Outcome::Passed)) => Some(Self::Cleared),
            (Self::Verified, _) if heard.documents => Some(Self::Cleared),
            (Self::Cleared, _) if heard.shipped => Some(Self::Active),
            _ => None,
        }
    }

    /// All the states to come, in turn, with what was heard.
    pub fn path(self, heard: &Heard) -> impl Iterator<Item = Self> {
        std::iter::successors(self.next(heard), move |state| state.next(heard))
    }
}
