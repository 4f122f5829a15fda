//! The handlers of `orders`.

use serde::Serialize;

use super::messages::{Charge, InventoryReserved, Mail, OrderPlaced, PaymentTaken};
use super::rows::{Inventory, Payment, Receipt, Reservation};
use crate::steps::{open_for_update, replace, transition};
use redeliver_core::ports::{Versioned, World};
use redeliver_pipeline::handler::{Cx, Failure, Handler, Outside, OutsideHandler};

/// Charges the card for an order that was placed.
#[derive(Clone, Copy, Debug)]
pub struct ChargeCard;

impl<W: World> OutsideHandler<W> for ChargeCard {
    type Event = OrderPlaced;
    type Answer = ();

    async fn call(&self, placed: &OrderPlaced, cx: &Outside<'_, W>) -> Result<(), Failure> {
        let charge = Charge {
            order: placed.order.clone(),
            cents: placed.cents,
            currency: placed.currency.clone(),
        };
        // A refusal is final. Without an answer the card may have been charged: the next
        // attempt asks again under the same idempotency key.
        cx.call("payments", "charge", json(&charge)?).await?;
        Ok(())
    }

    async fn apply(&self, placed: &OrderPlaced, (): (), cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let payment = Payment {
            order: placed.order.clone(),
            cents: placed.cents,
        };
        cx.insert(&payment).await?;
        transition(cx, &placed.order, "paid").await?;
        let taken = PaymentTaken {
            order: placed.order.clone(),
            cents: placed.cents,
            sku: placed.sku.clone(),
            quantity: placed.quantity,
        };
        Ok(cx.emit(&taken).await?)
    }
}

/// Sets the goods aside for an order that was paid.
#[derive(Clone, Copy, Debug)]
pub struct ReserveInventory;

impl<W: World> Handler<W> for ReserveInventory {
    type Event = PaymentTaken;

    async fn handle(&self, paid: &PaymentTaken, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let Versioned { mut row, version } =
            open_for_update(cx, &Inventory::opening(&paid.sku)).await?;
        row.left = row.left.checked_sub(paid.quantity).ok_or_else(|| {
            Failure::poison("out-of-stock", format!("{}: {} left", row.sku, row.left))
        })?;
        replace(cx, &row, version).await?;
        let reservation = Reservation {
            order: paid.order.clone(),
            sku: paid.sku.clone(),
            quantity: paid.quantity,
        };
        cx.insert(&reservation).await?;
        transition(cx, &paid.order, "reserved").await?;
        let reserved = InventoryReserved {
            order: paid.order.clone(),
            cents: paid.cents,
        };
        Ok(cx.emit(&reserved).await?)
    }
}

/// Sends the receipt when the goods are set aside.
#[derive(Clone, Copy, Debug)]
pub struct SendReceipt;

impl<W: World> OutsideHandler<W> for SendReceipt {
    type Event = InventoryReserved;
    type Answer = ();

    async fn call(&self, reserved: &InventoryReserved, cx: &Outside<'_, W>) -> Result<(), Failure> {
        let mail = Mail {
            order: reserved.order.clone(),
            subject: format!("Your receipt for {}", reserved.order),
        };
        cx.call("mail", "send", json(&mail)?).await?;
        Ok(())
    }

    async fn apply(
        &self,
        reserved: &InventoryReserved,
        (): (),
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        let receipt = Receipt {
            order: reserved.order.clone(),
            cents: reserved.cents,
        };
        cx.insert(&receipt).await?;
        transition(cx, &reserved.order, "done").await
    }
}

fn json<T: Serialize>(request: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(request).map_err(|e| Failure::poison("bad-request", e.to_string()))
}
