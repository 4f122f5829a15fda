//! An outbox that exists already: a team's own table in the place of the pipeline's.
//!
//! The pipeline's statements name one relation, `outbox`. With a mapping that is no table but a
//! view over the team's, in which each field of an event is a column or an expression of the
//! team's row. What a relay has to remember of a row (its claim, its failures), and what the
//! team's table has no place for, goes into columns that are added to it, all named `redeliver_…`.
//! Producers go on as before, in any language: they insert into their table.
//!
//! `PostgreSQL` makes such a view updatable and lockable by itself; only inserts, where the pipeline
//! itself emits, go through a trigger.

mod sql;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use redeliver_core::ports::store::StoreError;

pub(super) use sql::{apply, mark};

/// Which columns of a team's table are which fields of an event.
///
/// A field is the name of a column, or an SQL expression over the columns of one row (`'orders.' ||
/// lower(kind)`). Only what has no sensible default must be said. Expressions are put into DDL as
/// they stand: they are code, and belong into a repository, never into a form.
///
/// ```
/// use redeliver_postgres::OutboxMapping;
///
/// let mapping = OutboxMapping {
///     id: Some("id".into()),
///     event_id: Some("message_id".into()),
///     published_at: Some("processed_at".into()),
///     ..OutboxMapping::new("shop.outbox_messages", "topic", "order_id", "body")
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutboxMapping {
    /// The table, with its schema: `shop.outbox_messages`.
    pub table: String,
    /// Text: the event's type, `domain.what_happened`.
    pub event_type: String,
    /// Text: the business key.
    pub key: String,
    /// The payload: `json`, `jsonb`, text or `bytea`, JSON in any case.
    pub payload: String,
    /// A `bigint` column, unique, that rises with insertion. Default: an identity column is added,
    /// for which `PostgreSQL` writes the table anew.
    pub id: Option<String>,
    /// A column of type `timestamptz`, null while the row is to be published. Default: a column is
    /// added; see [`OutboxMapping::published`].
    pub published_at: Option<String>,
    /// Which rows another relay has published before this one takes over, as a condition: `sent`,
    /// or `status = 'sent'`. Where there is no such column as [`OutboxMapping::published_at`].
    pub published: Option<String>,
    /// What else is set when a row is published: columns with their values, `status` with
    /// `'sent'`.
    #[serde(default)]
    pub on_published: BTreeMap<String, String>,
    /// `uuid`: identifies the event. Consumers of an earlier relay know a message by it, so say it
    /// where there is one. Default: made of table and id, where [`OutboxMapping::id`] is a column of
    /// the team's; else a column is added.
    pub event_id: Option<String>,
    /// Text: what makes two events the same piece of work. Default: the event's id.
    pub idempotency_key: Option<String>,
    /// Text, `fact` or `command`. Default: `'fact'`.
    pub kind: Option<String>,
    /// Integer: of the payload's shape. Default: `1`.
    pub version: Option<String>,
    /// Text: the workflow. Default: the key.
    pub workflow: Option<String>,
    /// `uuid`: the first event of the chain. Default: the event itself.
    pub correlation: Option<String>,
    /// `uuid`, or null: the event that led to this one. Default: null.
    pub causation: Option<String>,
    /// `timestamptz`: when it was emitted. Default: the moment at which it is read.
    pub event_time: Option<String>,
    /// Text, or null: W3C `traceparent`. Default: null.
    pub trace: Option<String>,
    /// Text: the exchange. Default: the type up to its first dot.
    pub exchange: Option<String>,
    /// Text: the routing key. Default: the type.
    pub routing_key: Option<String>,
    /// What an event that the pipeline itself emits puts into other columns: columns with their
    /// values, SQL over the event's fields as `new.key`.
    #[serde(default)]
    pub insert: BTreeMap<String, String>,
    /// Whether rows are removed when they have been published for as long as the policy keeps
    /// them. Default: they stay.
    #[serde(default)]
    pub purge: bool,
}

impl OutboxMapping {
    /// A mapping with defaults for all that need not be said.
    pub fn new(table: &str, event_type: &str, key: &str, payload: &str) -> Self {
        Self {
            table: table.into(),
            event_type: event_type.into(),
            key: key.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Refuses what contradicts itself or is no name.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let refuse = |why: String| Err(StoreError::Refused(format!("outbox mapping: {why}")));
        let table = self.table.split('.').collect::<Vec<_>>();
        if table.len() != 2 || !table.iter().all(|part| is_name(part)) {
            return refuse(format!(
                "{:?} is no table: say it with its schema, as in shop.outbox",
                self.table
            ));
        }
        let columns = [("id", &self.id), ("published-at", &self.published_at)];
        for (field, column) in columns {
            if let Some(column) = column.as_ref().filter(|column| !is_name(column)) {
                return refuse(format!(
                    "{field} is {column:?}, which is no name of a column"
                ));
            }
        }
        for column in self.on_published.keys().chain(self.insert.keys()) {
            if !is_name(column) {
                return refuse(format!("{column:?} is no name of a column"));
            }
        }
        for (field, text) in [
            ("event-type", &self.event_type),
            ("key", &self.key),
            ("payload", &self.payload),
        ] {
            if text.trim().is_empty() {
                return refuse(format!("{field} is not said"));
            }
        }
        if let (Some(column), Some(_)) = (&self.published_at, &self.published) {
            return refuse(format!(
                "published-at is the column {column}, so published has nothing to say: a row \
                 whose {column} is not null is published"
            ));
        }
        Ok(())
    }
}

/// Whether it names a column, and is not an expression.
fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first)
        && text.chars().all(|c| first(c) || c.is_ascii_digit())
        && text.len() <= 63
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut OutboxMapping)) -> String {
        let mut mapping = OutboxMapping::new("shop.outbox", "topic", "order_id", "body");
        assert_eq!(mapping.check(), Ok(()));
        change(&mut mapping);
        mapping.check().expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_field() {
        let told = [
            refused(|m| m.table = "outbox".into()),
            refused(|m| m.table = "shop.outbox; drop table orders".into()),
            refused(|m| m.id = Some("id + 1".into())),
            refused(|m| m.published_at = Some("coalesce(a, b)".into())),
            refused(|m| m.payload = " ".into()),
            refused(|m| {
                m.on_published.insert("sta tus".into(), "'sent'".into());
            }),
            refused(|m| {
                m.published_at = Some("sent_at".into());
                m.published = Some("sent".into());
            }),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        the database refused: outbox mapping: "outbox" is no table: say it with its schema, as in shop.outbox
        the database refused: outbox mapping: "shop.outbox; drop table orders" is no table: say it with its schema, as in shop.outbox
        the database refused: outbox mapping: id is "id + 1", which is no name of a column
        the database refused: outbox mapping: published-at is "coalesce(a, b)", which is no name of a column
        the database refused: outbox mapping: payload is not said
        the database refused: outbox mapping: "sta tus" is no name of a column
        the database refused: outbox mapping: published-at is the column sent_at, so published has nothing to say: a row whose sent_at is not null is published
        "#);
    }
}
