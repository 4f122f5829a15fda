//! The messages that an anomaly about none of them names.
//!
//! What a query, an expectation or a team's own promise finds wrong is a row or a sentence. Where a
//! column or a word of it is the key of a message, a business key or a workflow, the messages behind
//! it are what the story has to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::verdict::Anomaly;
use crate::watch::reading::FinalReading;
use redeliver_core::event::Event;

/// Messages of one anomaly at most.
const NAMED: usize = 12;

/// Events by everything that names them, in the order in which they were committed.
struct Names<'a>(BTreeMap<&'a str, Vec<&'a Arc<Event>>>);

impl<'a> Names<'a> {
    fn of(reading: &'a FinalReading) -> Self {
        let mut names: BTreeMap<&str, Vec<&Arc<Event>>> = BTreeMap::new();
        for row in &reading.store.outbox {
            let event = &row.outgoing.event;
            let mut all = [&*event.idempotency_key, &*event.key, &*event.workflow];
            all.sort_unstable();
            for (i, name) in all.iter().enumerate() {
                if !name.is_empty() && !all[..i].contains(name) {
                    names.entry(name).or_default().push(event);
                }
            }
        }
        Self(names)
    }

    fn events(&self, value: &str) -> &[&'a Arc<Event>] {
        self.0.get(value).map_or(&[], |events| &events[..])
    }
}

/// Gives anomalies about no message those that their rows or their sentences name.
pub(super) fn name_messages(anomalies: &mut [Anomaly], reading: &FinalReading) {
    let mut names = None;
    for anomaly in anomalies.iter_mut().filter(|it| it.message.is_empty()) {
        let names = names.get_or_insert_with(|| Names::of(reading));
        let rows = reading.no_rows.iter().filter(|answer| {
            anomaly.checker == "no-rows" && anomaly.seen.starts_with(&format!("`{}`", answer.sql))
        });
        let columns = rows.flat_map(|answer| answer.rows.iter().flatten().flatten().flatten());
        let words = anomaly.seen.split(|c: char| !is_key(c));
        // A number in a sentence counts something.
        let words = words.filter(|word| !word.chars().all(|c| c.is_ascii_digit()));
        let values = columns.map(String::as_str).chain(words);
        let mut found: Vec<Arc<Event>> = Vec::new();
        for event in values.flat_map(|value| names.events(value)) {
            if found.len() < NAMED && found.iter().all(|known| known.id != event.id) {
                found.push(Arc::clone(event));
            }
        }
        let mut found = found.into_iter();
        if let Some(first) = found.next() {
            anomaly.message = first.idempotency_key.clone();
            anomaly.message_id = Some(first.id);
            anomaly.also = found.map(|event| event.idempotency_key.clone()).collect();
        }
    }
}

/// What keys are made of: [`Cx::emit`](redeliver_pipeline::handler::Cx::emit) joins them by `>` and
/// `:`.
fn is_key(c: char) -> bool {
    c.is_alphanumeric() || "-_.:>/#@…".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::AnomalyKind;
    use crate::watch::reading::Answer;
    use redeliver_core::event::{Kind, Outgoing};
    use redeliver_core::outbox::OutboxRow;
    use redeliver_core::ports::Timestamp;
    use uuid::Uuid;

    fn reading(rows: &[&[Option<&str>]]) -> FinalReading {
        let mut reading = FinalReading::default();
        let events = [
            ("order-1", "o-1"),
            ("order-1>paid", "o-1"),
            ("order-2", "17"),
        ];
        for (n, (key, business)) in (1u128..).zip(events) {
            let event = Event {
                id: Uuid::from_u128(n),
                idempotency_key: Arc::from(key),
                kind: Kind::Fact,
                event_type: Arc::from("order.placed"),
                version: 1,
                key: Arc::from(business),
                workflow: Arc::from(business),
                correlation: Uuid::from_u128(n),
                causation: None,
                time: Timestamp(0),
                trace: None,
                sequence: None,
                payload: bytes::Bytes::new(),
            };
            let outgoing = Outgoing {
                event: Arc::new(event),
                exchange: Arc::from("order"),
                routing_key: Arc::from("order.placed"),
            };
            reading.store.outbox.push(OutboxRow {
                id: 1,
                outgoing,
                published_at: None,
                lease_until: None,
            });
        }
        let text = |column: &Option<&str>| column.map(str::to_owned);
        let row = |row: &&[Option<&str>]| row.iter().map(text).collect();
        reading.no_rows = vec![Answer {
            sql: Arc::from("select 1"),
            rows: Ok(rows.iter().map(row).collect()),
        }];
        reading
    }

    fn named(rows: &[&[Option<&str>]]) -> Vec<String> {
        let reading = reading(rows);
        let mut found = crate::scenario::unwanted_rows(&reading.no_rows);
        name_messages(&mut found, &reading);
        assert!(found.iter().all(|it| it.kind == AnomalyKind::Invariant));
        let all = found.iter().flat_map(Anomaly::messages);
        all.map(str::to_owned).collect()
    }

    #[test]
    fn columns_name_messages_by_their_own_and_by_their_business_keys() {
        assert_eq!(named(&[&[Some("2"), Some("order-2")]]), ["order-2"]);
        assert_eq!(named(&[&[None, Some("o-1")]]), ["order-1", "order-1>paid"]);
        assert_eq!(
            named(&[&[Some("17")]]),
            ["order-2"],
            "a number may be a key"
        );
        assert_eq!(named(&[&[Some("nobody")], &[Some("o-2")]]), [""; 0]);
    }

    #[test]
    fn words_of_a_sentence_name_messages_and_numbers_do_not() {
        let reading = reading(&[]);
        let seen = "17 rows are there, one of (order-1>paid), not two";
        let mut found = [Anomaly::broken("mine", "One each.", seen)];
        name_messages(&mut found, &reading);
        assert_eq!(found[0].messages(), ["order-1>paid"]);
    }
}
