//! The tables of `orders`.

use serde::{Deserialize, Serialize};

use super::messages::OrderPlaced;
use redeliver_core::ports::Row;

/// Pieces of every kind of goods before the first reservation.
pub const OPENING_STOCK: u64 = 1_000_000;

/// An order as its customer placed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The order.
    pub order: String,
    /// What it costs, in hundredths of the currency.
    pub cents: u64,
    /// What was ordered.
    pub sku: String,
    /// How many pieces.
    pub quantity: u64,
}

impl From<&OrderPlaced> for Order {
    fn from(placed: &OrderPlaced) -> Self {
        Self {
            order: placed.order.clone(),
            cents: placed.cents,
            sku: placed.sku.clone(),
            quantity: placed.quantity,
        }
    }
}

impl Row for Order {
    const TABLE: &'static str = "orders";
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// A payment that the payment service has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The order.
    pub order: String,
    /// How much, in hundredths of the currency.
    pub cents: u64,
}

impl Row for Payment {
    const TABLE: &'static str = "payments";
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// What is left of one kind of goods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Which goods.
    pub sku: String,
    /// Pieces that are not reserved.
    pub left: u64,
}

impl Inventory {
    /// The stock before the first reservation.
    pub fn opening(sku: &str) -> Self {
        Self {
            sku: sku.to_owned(),
            left: OPENING_STOCK,
        }
    }
}

impl Row for Inventory {
    const TABLE: &'static str = "inventory";
    fn key(&self) -> String {
        self.sku.clone()
    }
}

/// Goods set aside for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order: String,
    /// Which goods.
    pub sku: String,
    /// How many pieces.
    pub quantity: u64,
}

impl Row for Reservation {
    const TABLE: &'static str = "reservations";
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// A receipt that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order.
    pub order: String,
    /// The amount on it, in hundredths of the currency.
    pub cents: u64,
}

impl Row for Receipt {
    const TABLE: &'static str = "receipts";
    fn key(&self) -> String {
        self.order.clone()
    }
}
