//! The messages of `orders`, and what it asks of outside services.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use redeliver_core::event::{Kind, Message};

/// A customer has placed an order.
///
/// Version 1 had `amount` (in cents of a euro) and always meant one piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// The order.
    pub order: String,
    /// What it costs, in hundredths of the currency.
    pub cents: u64,
    /// ISO 4217.
    pub currency: String,
    /// What was ordered.
    pub sku: String,
    /// How many pieces.
    pub quantity: u64,
}

impl Message for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const KIND: Kind = Kind::Fact;
    const VERSION: u16 = 2;

    fn key(&self) -> String {
        self.order.clone()
    }

    fn upcast(version: u16, mut payload: Value) -> Option<Value> {
        if version != 1 {
            return None;
        }
        let fields = payload.as_object_mut()?;
        let amount = fields.remove("amount")?;
        fields.insert("cents".to_owned(), amount);
        fields.insert("currency".to_owned(), Value::from("EUR"));
        fields.insert("quantity".to_owned(), Value::from(1));
        Some(payload)
    }
}

/// The card was charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentTaken {
    /// The order.
    pub order: String,
    /// How much, in hundredths of the currency.
    pub cents: u64,
    /// What was paid for.
    pub sku: String,
    /// How many pieces.
    pub quantity: u64,
}

impl Message for PaymentTaken {
    const TYPE: &'static str = "payment.taken";
    const KIND: Kind = Kind::Fact;

    fn key(&self) -> String {
        self.order.clone()
    }
}

/// The goods are set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryReserved {
    /// The order.
    pub order: String,
    /// What was paid, in hundredths of the currency.
    pub cents: u64,
}

impl Message for InventoryReserved {
    const TYPE: &'static str = "inventory.reserved";
    const KIND: Kind = Kind::Fact;

    fn key(&self) -> String {
        self.order.clone()
    }
}

/// The request to `payments`/`charge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The order.
    pub order: String,
    /// How much, in hundredths of the currency.
    pub cents: u64,
    /// ISO 4217.
    pub currency: String,
}

/// The request to `mail`/`send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The order that the mail is about.
    pub order: String,
    /// What it says.
    pub subject: String,
}
