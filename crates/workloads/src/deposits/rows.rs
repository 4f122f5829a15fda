//! The tables of `deposits`.
//!
//! Every movement of money is an entry of two postings: a debit of one account and a credit of
//! another, of the same amount. One of the two is a customer's, who numbers the entry; the other
//! is the house's. Of house accounts no balance is kept, since every writer would wait for it.

use serde::{Deserialize, Serialize};

use super::messages::{DepositRequested, TransferRequested};
use redeliver_core::ports::Row;

/// The house account from which deposits come.
pub const CASH: &str = "cash";
/// The house account of money that has left one customer and not reached the other.
pub const IN_FLIGHT: &str = "in-flight";

/// What a client has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The client's request.
    pub request: String,
    /// From which account; none for a deposit.
    pub from: Option<String>,
    /// Into which account.
    pub to: String,
    /// How much.
    pub cents: i64,
}

impl From<DepositRequested> for Instruction {
    fn from(deposit: DepositRequested) -> Self {
        Self {
            request: deposit.request,
            from: None,
            to: deposit.account,
            cents: deposit.cents,
        }
    }
}

impl From<TransferRequested> for Instruction {
    fn from(transfer: TransferRequested) -> Self {
        Self {
            request: transfer.request,
            from: Some(transfer.from),
            to: transfer.to,
            cents: transfer.cents,
        }
    }
}

impl Row for Instruction {
    const TABLE: &'static str = "instructions";
    fn key(&self) -> String {
        self.request.clone()
    }
}

/// What stands in a customer's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The account.
    pub account: String,
    /// How much.
    pub cents: i64,
    /// How many entries have led to it.
    pub entries: u64,
}

impl Balance {
    /// An account without entries.
    pub fn opening(account: &str) -> Self {
        Self {
            account: account.to_owned(),
            cents: 0,
            entries: 0,
        }
    }
}

impl Row for Balance {
    const TABLE: &'static str = "balances";
    fn key(&self) -> String {
        self.account.clone()
    }
}

/// Which side of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Money leaves the account.
    Debit,
    /// Money comes into the account.
    Credit,
}

/// Half of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The customer's account that numbers the entry.
    pub owner: String,
    /// The number of the entry within it: from 1, without gaps.
    pub number: u64,
    /// Which half this is.
    pub side: Side,
    /// The account that it moves.
    pub account: String,
    /// How much; above zero.
    pub cents: i64,
    /// On whose request.
    pub request: String,
}

impl Posting {
    /// What it adds to its account.
    pub fn signed(&self) -> i64 {
        match self.side {
            Side::Debit => -self.cents,
            Side::Credit => self.cents,
        }
    }
}

impl Row for Posting {
    const TABLE: &'static str = "postings";
    fn key(&self) -> String {
        let side = match self.side {
            Side::Debit => "debit",
            Side::Credit => "credit",
        };
        format!("{}/{:08}/{side}", self.owner, self.number)
    }
}

/// A transfer that its account did not cover: an outcome, not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The client's request.
    pub request: String,
    /// What stood in the account then.
    pub cents: i64,
}

impl Row for Decline {
    const TABLE: &'static str = "declines";
    fn key(&self) -> String {
        self.request.clone()
    }
}
