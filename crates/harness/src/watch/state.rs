//! What a run has left in its tables, as one number.
//!
//! A trace names messages and rows, never what they say. Two runs of one seed whose rows differ in
//! a value only, say by the wall clock, are told apart by this.

use redeliver_sim::choice::sip13;
use redeliver_sim::trace::subject_word;
use serde_json::Value;

use redeliver_core::ports::store::Reading;

/// The number of a final reading.
pub fn of(reading: &Reading) -> u64 {
    let mut state = 0;
    for row in &reading.outbox {
        let event = &row.outgoing.event;
        let payload = bytes(&event.payload);
        state = sip13((state, 1), &[subject_word(&event.idempotency_key), payload]);
    }
    for (table, key, version, document) in &reading.rows {
        let words = [
            subject_word(table),
            subject_word(key),
            version.cast_unsigned(),
        ];
        state = value(sip13((state, 2), &words), document);
    }
    state
}

fn bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain(std::iter::once(&last));
    words.fold(bytes.len() as u64, |state, word| {
        sip13((state, 3), &[u64::from_le_bytes(*word)])
    })
}

fn value(state: u64, document: &Value) -> u64 {
    match document {
        Value::Null => sip13((state, 4), &[]),
        Value::Bool(yes) => sip13((state, 5), &[u64::from(*yes)]),
        Value::Number(number) => sip13((state, 6), &[subject_word(&number.to_string())]),
        Value::String(text) => sip13((state, 7), &[bytes(text.as_bytes())]),
        Value::Array(all) => all.iter().fold(sip13((state, 8), &[]), value),
        Value::Object(all) => all
            .iter()
            .fold(sip13((state, 9), &[]), |state, (key, one)| {
                value(sip13((state, 10), &[subject_word(key)]), one)
            }),
    }
}
