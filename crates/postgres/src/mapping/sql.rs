//! The DDL of a mapping.

use std::fmt::Write as _;

use super::{OutboxMapping, is_name};
use crate::PgOptions;

/// How the view is marked, so that the same mapping is not applied again.
pub(in super::super) fn mark(options: &PgOptions, mapping: &OutboxMapping) -> String {
    let hash = blake3::hash(apply(options, mapping).as_bytes());
    format!("outbox mapping {}", &hash.to_hex()[..16])
}

/// What puts the mapping in place, to be run in one transaction. Nothing in it hurts where it was
/// run before.
pub(in super::super) fn apply(options: &PgOptions, mapping: &OutboxMapping) -> String {
    let place = Place {
        schema: &options.schema,
        table: quoted_table(&mapping.table),
        mapping,
    };
    let mut sql = String::new();
    place.columns(&mut sql);
    place.indexes(&mut sql);
    place.bytes(&mut sql);
    place.left_out(&mut sql);
    place.view(&mut sql);
    place.inserts(&mut sql);
    place.published(&mut sql);
    place.wakes(&mut sql, options.notify);
    sql
}

fn quoted_table(table: &str) -> String {
    let parts: Vec<String> = table.split('.').map(quoted).collect();
    parts.join(".")
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Adds lines.
fn put(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes any text");
}

struct Place<'a> {
    schema: &'a str,
    table: String,
    mapping: &'a OutboxMapping,
}

/// A field of an event: its name, what the team says of it, its type where a column is added for
/// it, and what it is where nothing is said.
struct Field<'a> {
    name: &'static str,
    said: Option<&'a str>,
    sort: &'static str,
    otherwise: String,
}

impl Field<'_> {
    /// The team's own column, if it is one.
    fn column(&self) -> Option<String> {
        self.said.filter(|said| is_name(said)).map(quoted)
    }

    /// Its value in a row `t`, by the team's columns alone.
    fn told(&self) -> String {
        match (self.column(), self.said) {
            (Some(column), _) => format!("t.{column}"),
            (None, Some(expression)) => format!("({expression})"),
            (None, None) => self.otherwise.clone(),
        }
    }

    /// Its value in a row `t`.
    fn value(&self) -> String {
        match self.column() {
            Some(_) => self.told(),
            None => format!("coalesce(t.redeliver_{}, {})", self.name, self.told()),
        }
    }

    /// The column that an event of the pipeline's own goes to.
    fn target(&self) -> String {
        self.column()
            .unwrap_or_else(|| format!("redeliver_{}", self.name))
    }
}

impl Place<'_> {
    fn id(&self) -> String {
        self.mapping
            .id
            .as_deref()
            .map_or("redeliver_id".into(), quoted)
    }

    fn published_at(&self) -> String {
        let own = self.mapping.published_at.as_deref();
        own.map_or("redeliver_published_at".into(), quoted)
    }

    /// Every reading of a row must give the same id, whatever the row says.
    fn made_id(&self) -> String {
        format!("md5('{}/' || t.{})::uuid", self.mapping.table, self.id())
    }

    fn event_id(&self) -> Field<'_> {
        self.field("event_id", &self.mapping.event_id, "uuid", self.made_id())
    }

    fn known_id(&self) -> String {
        match self.mapping.event_id {
            Some(_) => format!("coalesce({}, {})", self.event_id().value(), self.made_id()),
            None => self.event_id().value(),
        }
    }

    fn field<'f>(
        &self,
        name: &'static str,
        said: &'f Option<String>,
        sort: &'static str,
        otherwise: String,
    ) -> Field<'f> {
        let said = said.as_deref();
        Field {
            name,
            said,
            sort,
            otherwise,
        }
    }

    /// All fields but the payload, in the order of the view.
    fn fields(&self) -> Vec<Field<'_>> {
        let m = self.mapping;
        let must = |name, said, sort| Field {
            name,
            said: Some(said),
            sort,
            otherwise: String::new(),
        };
        let event_type = must("event_type", &*m.event_type, "text");
        let key = must("key", &*m.key, "text");
        let (id, type_text, key_text) = (
            self.known_id(),
            format!("coalesce({}::text, '')", event_type.value()),
            format!("coalesce({}::text, '')", key.value()),
        );
        let exchange = format!("split_part({type_text}, '.', 1)");
        vec![
            self.event_id(),
            self.field(
                "idempotency_key",
                &m.idempotency_key,
                "text",
                format!("{id}::text"),
            ),
            self.field("kind", &m.kind, "text", "'fact'".into()),
            event_type,
            self.field("version", &m.version, "integer", "1".into()),
            key,
            self.field("workflow", &m.workflow, "text", key_text),
            self.field("correlation", &m.correlation, "uuid", id),
            self.field("causation", &m.causation, "uuid", "null".into()),
            self.field("event_time", &m.event_time, "timestamptz", "now()".into()),
            self.field("trace", &m.trace, "text", "null".into()),
            self.field("exchange", &m.exchange, "text", exchange),
            self.field("routing_key", &m.routing_key, "text", type_text),
        ]
    }

    fn payload(&self) -> Field<'_> {
        Field {
            name: "payload",
            said: Some(&self.mapping.payload),
            sort: "bytea",
            otherwise: String::new(),
        }
    }

    fn columns(&self, sql: &mut String) {
        let mut added: Vec<(String, String)> = Vec::new();
        if self.mapping.id.is_none() {
            let sort = "bigint generated by default as identity unique";
            added.push(("redeliver_id".into(), sort.into()));
        }
        if self.mapping.published_at.is_none() {
            added.push(("redeliver_published_at".into(), "timestamptz".into()));
        }
        for (name, sort) in [
            ("relay", "text"),
            ("lease_until", "timestamptz"),
            ("token", "bigint not null default 0"),
            ("failures", "integer not null default 0"),
            ("available_at", "timestamptz not null default '-infinity'"),
            ("last_error", "text"),
            ("order_scope", "text collate \"C\""),
            ("order_seq", "bigint"),
            ("event_nanos", "smallint"),
        ] {
            added.push((format!("redeliver_{name}"), sort.into()));
        }
        let (payload, fields) = (self.payload(), self.fields());
        for field in fields.iter().chain([&payload]) {
            if field.column().is_some() {
                continue;
            }
            // Each row keeps the moment at which it was put in.
            let dated = field.name == "event_time" && field.said.is_none();
            let default = if dated { " default now()" } else { "" };
            added.push((
                format!("redeliver_{}", field.name),
                format!("{}{default}", field.sort),
            ));
        }
        put(sql, format_args!("alter table {}", self.table));
        for (at, (name, sort)) in added.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            put(
                sql,
                format_args!("{comma}\n    add column if not exists {name} {sort}"),
            );
        }
        sql.push_str(";\n");
        if let Some(published) = &self.mapping.published {
            put(
                sql,
                format_args!(
                    "-- What another relay has published is not published again.\n\
                     update {} set redeliver_published_at = clock_timestamp()\n    \
                     where ({published}) and redeliver_published_at is null;\n",
                    self.table
                ),
            );
        }
    }

    fn indexes(&self, sql: &mut String) {
        let name = self.mapping.table.replace('.', "_");
        let (table, id, published) = (&self.table, self.id(), self.published_at());
        put(
            sql,
            format_args!(
                "create index if not exists \"{name}_redeliver_unpublished\"\n    \
                 on {table} ({id}) where {published} is null;\n\
                 create unique index if not exists \"{name}_redeliver_order\"\n    \
                 on {table} (redeliver_order_scope, redeliver_order_seq)\n    \
                 where redeliver_order_scope is not null;\n\
                 create index if not exists \"{name}_redeliver_order_unpublished\"\n    \
                 on {table} (redeliver_order_scope, redeliver_order_seq)\n    \
                 where {published} is null and redeliver_order_scope is not null;\n"
            ),
        );
    }

    /// A payload as bytes, whatever it is kept as.
    fn bytes(&self, sql: &mut String) {
        for (sort, body) in [
            ("bytea", "$1"),
            ("text", "convert_to($1, 'UTF8')"),
            ("json", "convert_to($1::text, 'UTF8')"),
            ("jsonb", "convert_to($1::text, 'UTF8')"),
        ] {
            put(
                sql,
                format_args!(
                    "create or replace function {}.payload_bytes({sort}) returns bytea\n    \
                     language sql immutable parallel safe as $$ select {body} $$;\n",
                    self.schema
                ),
            );
        }
    }

    /// Where the pipeline itself emits, every column must get a value.
    fn left_out(&self, sql: &mut String) {
        let (payload, fields) = (self.payload(), self.fields());
        let mapped = fields.iter().chain([&payload]).filter_map(Field::column);
        let known: Vec<String> = mapped
            .chain(self.mapping.insert.keys().map(|column| quoted(column)))
            .map(|column| format!("'{}'", column.trim_matches('"')))
            .collect();
        // Not information_schema, which looks at every table there is, and waits for it.
        let table = &self.table;
        put(
            sql,
            format_args!(
                "do $$ declare\n    \
                 missing constant text := (\n        \
                 select string_agg(attname, ', ' order by attnum) from pg_attribute\n        \
                 where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped\n            \
                 and attnotnull and not atthasdef and attidentity = ''\n            \
                 and attname <> all (array[{}]::name[]));\n\
                 begin\n    \
                 if missing is not null then\n        \
                 raise exception 'outbox mapping: an event of the pipeline''s own would leave % empty, which must not be null', missing\n            \
                 using hint = 'say their values under insert, or give them defaults';\n    \
                 end if;\n\
                 end $$;\n",
                known.join(", ")
            ),
        );
    }

    fn view(&self, sql: &mut String) {
        let schema = self.schema;
        put(
            sql,
            format_args!(
                "do $$ begin\n    \
                 if exists (select from pg_class where oid = to_regclass('{schema}.outbox') and relkind = 'r') then\n        \
                 if exists (select from {schema}.outbox where published_at is null) then\n            \
                 raise exception '{schema}.outbox still has events to publish: let a relay without the mapping publish them first';\n        \
                 end if;\n        \
                 alter table {schema}.outbox rename to outbox_before_mapping;\n    \
                 end if;\n\
                 end $$;\n\
                 drop view if exists {schema}.outbox;\n\
                 create view {schema}.outbox as select\n    t.{} as id",
                self.id()
            ),
        );
        for field in self.fields() {
            let (name, value) = (field.name, field.value());
            // What one row says must never keep the others from being published.
            let safe = match name {
                "kind" => {
                    format!("case {value}::text when 'command' then 'command' else 'fact' end")
                }
                "version" => format!("least(greatest(coalesce({value}, 1), 1), 65535)::integer"),
                "event_time" => {
                    format!("case when isfinite({value}) then {value} else now() end")
                }
                "event_id" => self.known_id(),
                "correlation" => format!("coalesce({value}, {})", self.known_id()),
                "idempotency_key" => {
                    format!("coalesce({value}::text, {}::text)", self.known_id())
                }
                "causation" => value,
                "trace" => format!("{value}::text"),
                _ => format!("coalesce({value}::text, '')"),
            };
            put(sql, format_args!(",\n    {safe} as {name}"));
        }
        let payload = self.payload();
        let bytes = match payload.column() {
            Some(column) => format!("{schema}.payload_bytes(t.{column})"),
            None => format!(
                "coalesce(t.redeliver_payload, {schema}.payload_bytes({}))",
                payload.told()
            ),
        };
        put(
            sql,
            format_args!(
                ",\n    coalesce({bytes}, ''::bytea) as payload,\n    \
                 coalesce(t.redeliver_event_nanos, 0::smallint) as event_nanos"
            ),
        );
        for name in [
            "relay",
            "lease_until",
            "token",
            "failures",
            "available_at",
            "last_error",
            "order_scope",
            "order_seq",
        ] {
            put(sql, format_args!(",\n    t.redeliver_{name} as {name}"));
        }
        put(
            sql,
            format_args!(
                ",\n    t.{} as published_at\n    from {} t;\n",
                self.published_at(),
                self.table
            ),
        );
    }

    /// What the pipeline itself emits goes into the same table.
    fn inserts(&self, sql: &mut String) {
        let (schema, payload, fields) = (self.schema, self.payload(), self.fields());
        let mut columns: Vec<(String, String)> = fields
            .iter()
            .map(|field| (field.target(), format!("new.{}", field.name)))
            .collect();
        let body = match payload.column() {
            Some(column) => {
                columns.push((column.clone(), "body".into()));
                format!("body {}.{column}%type;", self.table)
            }
            None => {
                columns.push(("redeliver_payload".into(), "new.payload".into()));
                "body bytea;".into()
            }
        };
        for name in ["order_scope", "order_seq", "event_nanos"] {
            columns.push((format!("redeliver_{name}"), format!("new.{name}")));
        }
        for (column, value) in &self.mapping.insert {
            columns.push((quoted(column), format!("({value})")));
        }
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        put(
            sql,
            format_args!(
                "create or replace function {schema}.outbox_insert() returns trigger\n    \
                 language plpgsql as $$\n\
                 declare\n    {body}\n\
                 begin\n    \
                 if pg_typeof(body) = 'bytea'::regtype then\n        \
                 body := new.payload;\n    \
                 else\n        \
                 body := convert_from(new.payload, 'UTF8');\n    \
                 end if;\n    \
                 insert into {} ({})\n    values ({});\n    \
                 return new;\n\
                 end $$;\n\
                 create trigger outbox_insert instead of insert on {schema}.outbox\n    \
                 for each row execute function {schema}.outbox_insert();\n",
                self.table,
                names.join(", "),
                values.join(", ")
            ),
        );
    }

    /// Other columns that change when a row is published.
    fn published(&self, sql: &mut String) {
        let (schema, table, column) = (self.schema, &self.table, self.published_at());
        put(
            sql,
            format_args!("drop trigger if exists redeliver_published on {table};\n"),
        );
        if self.mapping.on_published.is_empty() {
            return;
        }
        let mut set = String::new();
        for (column, value) in &self.mapping.on_published {
            put(
                &mut set,
                format_args!("    new.{} := {value};\n", quoted(column)),
            );
        }
        put(
            sql,
            format_args!(
                "create or replace function {schema}.outbox_published() returns trigger\n    \
                 language plpgsql as $$\n\
                 begin\n{set}    return new;\n\
                 end $$;\n\
                 create trigger redeliver_published before update on {table}\n    \
                 for each row when (old.{column} is null and new.{column} is not null)\n    \
                 execute function {schema}.outbox_published();\n"
            ),
        );
    }

    /// Relays hear of rows that others have put in.
    fn wakes(&self, sql: &mut String, notify: bool) {
        let (schema, table) = (self.schema, &self.table);
        put(
            sql,
            format_args!("drop trigger if exists redeliver_wake on {table};\n"),
        );
        if notify {
            put(
                sql,
                format_args!(
                    "create or replace function {schema}.outbox_wake() returns trigger\n    \
                     language plpgsql as $$\n\
                     begin\n    perform pg_notify('{schema}_outbox', '');\n    return null;\n\
                     end $$;\n\
                     create trigger redeliver_wake after insert on {table}\n    \
                     for each statement execute function {schema}.outbox_wake();\n"
                ),
            );
        }
    }
}
