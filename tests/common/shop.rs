//! The event of a team's own workloads.

use redeliver::pipeline::event::{Kind, Message};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) order: String,
}

impl Placed {
    /// The order of that number: `order-3`.
    pub(crate) fn number(n: u32) -> Self {
        Self {
            order: format!("order-{n}"),
        }
    }
}

impl Message for Placed {
    const TYPE: &'static str = "order.placed";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}
