//! The tables of `onboarding`.

use serde::{Deserialize, Serialize};

use super::machine::Heard;
use redeliver_core::ports::Row;

/// How far a customer has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Who.
    pub customer: String,
    /// What was heard of them.
    pub heard: Heard,
}

impl Progress {
    /// Nothing was heard yet.
    pub fn new(customer: &str) -> Self {
        Self {
            customer: customer.to_owned(),
            heard: Heard::default(),
        }
    }
}

impl Row for Progress {
    const TABLE: &'static str = "progress";
    fn key(&self) -> String {
        self.customer.clone()
    }
}

/// What the warehouse has shipped to a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// To whom.
    pub customer: String,
    /// How many parcels.
    pub parcels: u32,
}

impl Shipment {
    /// Nothing was shipped yet.
    pub fn none(customer: &str) -> Self {
        Self {
            customer: customer.to_owned(),
            parcels: 0,
        }
    }
}

impl Row for Shipment {
    const TABLE: &'static str = "shipments";
    fn key(&self) -> String {
        self.customer.clone()
    }
}
