//! The messages of `deposits`: commands, in the order of their account.

use serde::{Deserialize, Serialize};

use redeliver_core::event::{Kind, Message};

/// Money from outside is to be put into an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositRequested {
    /// The client's request.
    pub request: String,
    /// Into which account.
    pub account: String,
    /// How much.
    pub cents: i64,
}

impl Message for DepositRequested {
    const TYPE: &'static str = "account.deposit_requested";
    const KIND: Kind = Kind::Command;
    const ORDERED: bool = true;

    fn key(&self) -> String {
        self.account.clone()
    }

    fn workflow(&self) -> String {
        self.request.clone()
    }
}

/// Money is to be taken from one account and put into another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRequested {
    /// The client's request.
    pub request: String,
    /// From which account.
    pub from: String,
    /// Into which account.
    pub to: String,
    /// How much.
    pub cents: i64,
}

impl Message for TransferRequested {
    const TYPE: &'static str = "account.transfer_requested";
    const KIND: Kind = Kind::Command;
    const ORDERED: bool = true;

    fn key(&self) -> String {
        self.from.clone()
    }

    fn workflow(&self) -> String {
        self.request.clone()
    }
}

/// The second half of a transfer: money that has left its account is to be put into the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditRequested {
    /// The client's request.
    pub request: String,
    /// Into which account.
    pub account: String,
    /// How much.
    pub cents: i64,
}

impl Message for CreditRequested {
    const TYPE: &'static str = "account.credit_requested";
    const KIND: Kind = Kind::Command;
    const ORDERED: bool = true;

    fn key(&self) -> String {
        self.account.clone()
    }

    fn workflow(&self) -> String {
        self.request.clone()
    }
}
