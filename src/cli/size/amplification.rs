//! What each layer repeats, and what a retry budget would change.

use rayon::prelude::*;
use serde_json::{Value as Json, json};

use super::confirm::Confirmed;
use super::json::finite;
use super::tell::length;
use crate::cli::out::Out;
use redeliver_harness::size::Question;
use redeliver_harness::size::words::{share, time};
use redeliver_sizing::evaluate::{InOutage, in_outage};
use redeliver_sizing::model::{RetryBudget, Setting};

/// What an outage does without and with a retry budget.
pub(super) struct Amplification {
    budget: RetryBudget,
    /// Calls that one try makes at most.
    calls: u32,
    /// Each outage in words, without the budget and with it.
    outages: Vec<(String, InOutage, InOutage)>,
}

impl Amplification {
    pub(super) fn of(question: &Question, setting: &Setting, seed: u64) -> Self {
        let case = &question.case;
        let budget = question.budget();
        let limited = Setting {
            budget: Some(budget),
            ..setting.clone()
        };
        let outages = case.outages.par_iter().map(|kind| {
            let without = in_outage(case, kind, setting, seed);
            (length(kind), without, in_outage(case, kind, &limited, seed))
        });
        Self {
            budget,
            calls: case.calls,
            outages: outages.collect(),
        }
    }

    /// Each outage with and without the budget: what it is, then calls, the most calls, dead letters and
    /// how soon the backlog is gone.
    pub(super) fn rows(&self) -> Vec<[String; 5]> {
        let row = |name: String, seen: &InOutage| {
            [
                name,
                format!("{:.1}x", seen.calls.mean),
                format!("{:.1}x", seen.busiest.mean),
                share(seen.dead.mean),
                seen.drained.map_or("later".to_owned(), |it| time(it.mean)),
            ]
        };
        let outages = self.outages.iter().flat_map(|(lasts, without, with)| {
            [
                row(format!("outage of {lasts}"), without),
                row(format!("  with a budget of {}", self.in_words()), with),
            ]
        });
        outages.collect()
    }

    fn in_words(&self) -> String {
        let ratio = f64::from(self.budget.ratio) / 1e3;
        format!("{}, burst {}", share(ratio), self.budget.burst)
    }

    pub(super) fn tell(&self, confirmed: Option<&Confirmed>, out: &mut Out) {
        if !self.outages.is_empty() {
            out.line(&format!(
                "{:<44} {:>10} {:>10} {:>10} {:>14}",
                "calls of the service in an outage", "a message", "at most", "dead", "backlog gone"
            ));
            for [name, calls, most, dead, drained] in self.rows() {
                out.line(&format!(
                    "{name:<44} {calls:>10} {most:>10} {dead:>10} {drained:>14}"
                ));
            }
            out.line("");
        }
        if let Some(confirmed) = confirmed {
            out.line(&format!(
                "{:<28} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9} {:>11}",
                "repeated by",
                "client",
                "relay",
                "broker",
                "consumer",
                "library",
                "product",
                "at service"
            ));
            for [
                name,
                client,
                relay,
                broker,
                consumer,
                library,
                product,
                service,
            ] in self.repeated(confirmed)
            {
                out.line(&format!(
                    "{name:<28} {client:>8} {relay:>8} {broker:>8} {consumer:>9} {library:>8} \
                     {product:>9} {service:>11}"
                ));
            }
            out.line("");
        }
    }

    /// What each layer repeats by part: client, relay, broker, consumer, client library, the product of
    /// them, and what reaches the service.
    pub(super) fn repeated(&self, confirmed: &Confirmed) -> Vec<[String; 8]> {
        let parts = confirmed.layers().into_iter().map(|(name, layers)| {
            let library = f64::from(self.library(&name));
            let [client, relay, broker, consumer] =
                layers.factors().map(|factor| format!("{factor:.2}"));
            [
                name,
                client,
                relay,
                broker,
                consumer,
                format!("{library:.2}"),
                format!("{:.2}", layers.product() * library),
                format!("{:.2}", layers.at_service() * library),
            ]
        });
        parts.collect()
    }

    /// What the handler's client library repeats: only what fails.
    fn library(&self, part: &str) -> u32 {
        if part.starts_with("outage") {
            self.calls
        } else {
            1
        }
    }

    pub(super) fn json(&self, confirmed: Option<&Confirmed>) -> Json {
        let seen = |it: &InOutage| {
            json!({
                "calls": finite(it.calls.mean),
                "busiest": finite(it.busiest.mean),
                "dead": finite(it.dead.mean),
                "drained_s": it.drained.map(|it| finite(it.mean)),
            })
        };
        let outages = self.outages.iter().map(|(lasts, without, with)| {
            json!({ "outage": lasts, "without_budget": seen(without), "with_budget": seen(with) })
        });
        let layers = confirmed.map(|confirmed| {
            let parts = confirmed.layers().into_iter().map(|(name, layers)| {
                let [client, relay, broker, consumer] = layers.factors();
                let library = self.library(&name);
                json!({
                    "part": name,
                    "client": client,
                    "relay": relay,
                    "broker": broker,
                    "consumer": consumer,
                    "library": library,
                    "product": layers.product() * f64::from(library),
                    "at_service": layers.at_service() * f64::from(library),
                })
            });
            parts.collect::<Vec<_>>()
        });
        json!({
            "budget": { "ratio": f64::from(self.budget.ratio) / 1e3, "burst": self.budget.burst },
            "outages": outages.collect::<Vec<_>>(),
            "layers": layers,
        })
    }
}
