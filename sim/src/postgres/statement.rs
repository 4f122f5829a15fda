//! What a query does to its transaction, as far as its text says.
//!
//! Faults strike commits, so it has to be known which round trips commit something. A client may
//! write a comment first, parentheses, a CTE that writes, or several statements in one query; all
//! of it is read here as PostgreSQL's lexer reads it (documentation, 4.1).
//!
//! One thing no text says: whether a function that a SELECT calls writes. Such a statement counts as
//! one that may, unless all that it calls is known not to: a commit fault then strikes it, which is
//! what happens to a statement that writes nothing as well, and loses nothing there.

/// What a round trip is to its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// A transaction begins, and is not ended in the same query.
    Begin,
    /// A transaction is committed.
    Commit,
    /// A transaction is rolled back.
    Rollback,
    /// The end of the rows of a COPY.
    Rows,
    /// Anything else that is carried out.
    Statement,
    /// Nothing is carried out: it is parsed, described, or closed.
    Nothing,
}

/// A query, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) verb: Verb,
    /// It may change something, so that it commits something where it stands alone.
    pub(super) writes: bool,
    /// It listens for notifications.
    pub(super) listens: bool,
    /// It is more than a look around: not only LISTEN, UNLISTEN or the end of a transaction.
    pub(super) works: bool,
}

/// Functions that are known to change nothing, beside those whose names begin with `pg_get_`,
/// `json`, `to_` or `array_`.
const PURE: &[&str] = &[
    "abs",
    "age",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "cast",
    "ceil",
    "char_length",
    "coalesce",
    "concat",
    "count",
    "current_database",
    "current_schema",
    "current_setting",
    "date_part",
    "date_trunc",
    "decode",
    "digest",
    "encode",
    "exists",
    "extract",
    "floor",
    "format",
    "generate_series",
    "greatest",
    "hashtext",
    "in",
    "any",
    "all",
    "some",
    "values",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "max",
    "md5",
    "min",
    "mod",
    "now",
    "nullif",
    "octet_length",
    "over",
    "filter",
    "within",
    "position",
    "replace",
    "right",
    "round",
    "row",
    "row_number",
    "rpad",
    "rtrim",
    "split_part",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "transaction_timestamp",
    "clock_timestamp",
    "statement_timestamp",
    "trim",
    "unnest",
    "upper",
    "version",
    "and",
    "or",
    "not",
    "on",
    "using",
    "as",
    "from",
    "where",
    "select",
    "distinct",
    "by",
    "lateral",
    "union",
    "except",
    "intersect",
    "numeric",
    "varchar",
    "char",
    "timestamp",
    "interval",
    "bit",
    "when",
    "then",
    "else",
    "case",
    "is",
    "like",
    "ilike",
    "between",
    "return",
    "materialized",
    "recursive",
    "with",
    "limit",
    "offset",
    "having",
    "join",
    "array",
    "regexp_replace",
    "rank",
    "dense_rank",
    "lag",
    "lead",
    "first_value",
    "last_value",
];

const PURE_BEGINNINGS: [&str; 4] = ["pg_get_", "json", "to_", "array_"];

/// Statements that look and change nothing.
const LOOKS: &[&str] = &[
    "show",
    "table",
    "values",
    "fetch",
    "move",
    "close",
    "declare",
    "set",
    "reset",
    "discard",
    "prepare",
    "deallocate",
    "savepoint",
    "release",
    "listen",
    "unlisten",
    "checkpoint",
    "load",
];

/// Which rows a query adds to the database, as far as its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Adds {
    /// None, or only such as take the place of others: `on conflict do update`.
    Nothing,
    /// As many as the server's answer says.
    Counted,
    /// Some: an insert within another statement, of which the answer says nothing.
    Untold,
}

/// Reads from a query which rows it adds.
pub(super) fn adds(sql: &str) -> Adds {
    let all = statements(sql);
    let each = all.iter().map(|words| adds_of_one(words));
    each.max().unwrap_or(Adds::Nothing)
}

fn adds_of_one(words: &[Word<'_>]) -> Adds {
    let pair = |one, other| {
        let mut pairs = words.windows(2);
        pairs.any(|pair| pair[0].is(one) && pair[1].is(other))
    };
    let has = |text| words.iter().any(|word| word.is(text));
    let Some(first) = words.first() else {
        return Adds::Nothing;
    };
    if first.is("copy") && has("from") {
        return Adds::Counted;
    }
    if !pair("insert", "into") || pair("do", "update") {
        return Adds::Nothing;
    }
    match first.is("insert") {
        true => Adds::Counted,
        // Whether it has added none is not said.
        false if has("conflict") => Adds::Nothing,
        false => Adds::Untold,
    }
}

/// Reads a query: one statement, or several as a simple query may have.
pub(super) fn read(sql: &str) -> Reading {
    let mut whole = Reading {
        verb: Verb::Nothing,
        writes: false,
        listens: false,
        works: false,
    };
    let mut open = false;
    for statement in statements(sql) {
        let one = of_one(&statement);
        whole.listens |= one.listens;
        whole.works |= one.works;
        match one.verb {
            Verb::Begin => {
                open = true;
                whole.writes = false;
            }
            Verb::Commit | Verb::Rollback => open = false,
            // What stands before a BEGIN belongs to its transaction, too.
            _ => whole.writes |= one.writes && !open,
        }
        whole.verb = match (whole.verb, one.verb) {
            // Once something was committed, that outranks the rest.
            (Verb::Commit, _) => Verb::Commit,
            (Verb::Nothing, verb) => verb,
            (_, Verb::Commit) => Verb::Commit,
            (Verb::Begin, Verb::Rollback) => Verb::Statement,
            (before, Verb::Nothing) => before,
            (_, verb) => match verb {
                Verb::Begin => Verb::Begin,
                _ => Verb::Statement,
            },
        };
    }
    whole
}

fn of_one(words: &[Word<'_>]) -> Reading {
    let plain = |at: usize| words.get(at).map_or("", |word| word.text);
    let is = |at: usize, text: &str| plain(at).eq_ignore_ascii_case(text);
    let first = plain(0).to_ascii_lowercase();
    let statement = |writes| Reading {
        verb: Verb::Statement,
        writes,
        listens: first == "listen",
        works: !matches!(&*first, "listen" | "unlisten"),
    };
    let ends = |verb| Reading {
        verb,
        writes: false,
        listens: false,
        works: verb != Verb::Rollback,
    };
    match &*first {
        "" => Reading {
            verb: Verb::Nothing,
            writes: false,
            listens: false,
            works: false,
        },
        "begin" => ends(Verb::Begin),
        "start" if is(1, "transaction") => ends(Verb::Begin),
        "commit" | "end" => ends(Verb::Commit),
        // The first half of a two-phase commit is durable, and ends the transaction.
        "prepare" if is(1, "transaction") => ends(Verb::Commit),
        "rollback" | "abort" if is(1, "prepared") => statement(true),
        "rollback" | "abort" => {
            let back = (1..3).any(|at| is(at, "to"));
            if back {
                statement(false)
            } else {
                ends(Verb::Rollback)
            }
        }
        "explain" => {
            let runs = words
                .iter()
                .any(|word| word.is("analyze") || word.is("analyse"));
            statement(runs && changes(words))
        }
        "select" | "with" => {
            let into = words.iter().any(|word| word.is("into"));
            statement(into || changes(words) || calls_unknown(words))
        }
        // Rows that a client sends are committed with their last, which is a round trip of its own.
        "copy" => {
            let has = |text| words.iter().any(|word| word.is(text));
            statement((has("from") && !has("stdin")) || changes(words))
        }
        look if LOOKS.contains(&look) => statement(false),
        // INSERT, MERGE, CALL, DO, NOTIFY, and all that defines something.
        _ => statement(true),
    }
}

/// Whether a word stands in it that changes rows: somewhere, as in a CTE.
fn changes(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        let before = |n: usize| at.checked_sub(n).map(|at| words[at]);
        let locks = before(1).is_some_and(|word| word.is("for") || word.is("key"));
        word.is("insert") || word.is("delete") || word.is("merge") || (word.is("update") && !locks)
    })
}

/// Whether it calls something that is not known to change nothing.
fn calls_unknown(words: &[Word<'_>]) -> bool {
    let pure = |name: &str| {
        let name = name.to_ascii_lowercase();
        PURE.contains(&&*name)
            || PURE_BEGINNINGS
                .iter()
                .any(|begins| name.starts_with(begins))
    };
    // `with recent (a, b) as (…)`, `from t (a)` and `values (…)` look like calls; the first two are
    // taken for some, which harms nobody.
    words.iter().any(|word| word.calls && !pure(word.text))
}

/// A word outside of strings, quoted names and comments.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    /// An opening parenthesis follows.
    calls: bool,
}

impl Word<'_> {
    fn is(&self, text: &str) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }
}

/// The words of each statement.
fn statements(sql: &str) -> Vec<Vec<Word<'_>>> {
    let bytes = sql.as_bytes();
    let (mut all, mut at) = (vec![Vec::new()], 0);
    while at < bytes.len() {
        at = match bytes[at] {
            b'-' if bytes[at..].starts_with(b"--") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'\'' => string_end(bytes, at, is_escaped(bytes, at)),
            b'"' => quoted_end(bytes, at, b'"'),
            b'$' => dollar_end(sql, at),
            b';' => {
                all.push(Vec::new());
                at + 1
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                let end = word_end(bytes, at);
                // `E'…'` and its like are strings, not words.
                if bytes.get(end) != Some(&b'\'') || end - at > 2 {
                    let next = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
                    let word = Word {
                        text: &sql[at..end],
                        calls: next == Some(&b'('),
                    };
                    all.last_mut().expect("one at least").push(word);
                }
                end
            }
            _ => at + 1,
        };
    }
    all.retain(|statement| !statement.is_empty());
    all
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || b"_$".contains(byte);
    at + bytes[at..].iter().take_while(|byte| in_word(byte)).count()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..]
        .iter()
        .take_while(|byte| **byte != b'\n')
        .count()
}

/// Comments nest.
fn comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Whether a string is written as `E'…'`, in which a backslash escapes.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|at| bytes[at]);
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    matches!(before(1), Some(b'e' | b'E')) && !before(2).is_some_and(word)
}

fn string_end(bytes: &[u8], at: usize, escaped: bool) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escaped => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match (bytes[at] == quote, bytes.get(at + 1) == Some(&quote)) {
            (true, true) => at += 2,
            (true, false) => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `$tag$ … $tag$`, or a parameter.
fn dollar_end(sql: &str, at: usize) -> usize {
    let rest = &sql[at + 1..];
    let tag = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let tag = tag.count();
    let is_tag = rest.as_bytes().get(tag) == Some(&b'$')
        && !rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !is_tag {
        return at + 1;
    }
    let quote = &sql[at..at + tag + 2];
    let body = &sql[at + quote.len()..];
    body.find(quote)
        .map_or(sql.len(), |end| at + end + quote.len() * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(sql: &str) -> Verb {
        read(sql).verb
    }

    #[test]
    fn comments_and_parentheses_hide_nothing() {
        for sql in [
            "COMMIT",
            "-- done\ncommit",
            "/* the /* nested */ end */ COMMIT;",
            "  ;; end work",
            "/*! query_file */\n\n-- two\nCommit And Chain",
            "prepare transaction 'x'",
        ] {
            assert_eq!(verb(sql), Verb::Commit, "{sql}");
        }
        for sql in [
            "insert into t values (1)",
            "-- a file\ninsert into t values ($1)",
            "/* 1 */ update t set a = 1",
            "with gone as (delete from t returning *) select * from gone",
            "with a as (select 1), b as (insert into t select * from a returning 1) table b",
            "merge into t using s on true when matched then delete",
            "select * into copy from t",
            "copy t from '/tmp/rows'",
            "call settle_all()",
            "do $$ begin perform 1; end $$",
            "explain analyze delete from t",
            "select settle($1)",
            "(select settle($1))",
            "notify orders",
            "create table t (a int)",
        ] {
            assert!(read(sql).writes, "{sql}");
            assert_eq!(verb(sql), Verb::Statement, "{sql}");
        }
    }

    #[test]
    fn looks_are_no_writes() {
        for sql in [
            "select 1",
            "(select a from t)",
            "select count(*), max(a), coalesce(b, 'insert into t') from t where a in (1, 2)",
            "select * from t for update skip locked",
            "select * from t for no key update",
            "with recent as (select * from t) select * from recent",
            "select 'it''s; delete from t' as \"update\"",
            "select E'\\'; delete from t' from t",
            "select $x$ ; delete from t $x$, $1",
            "explain delete from t",
            "copy t from stdin",
            "show server_version",
            "listen orders",
            "set local lock_timeout = 1",
            "rollback to savepoint a",
            "savepoint a",
        ] {
            assert!(!read(sql).writes, "{sql}");
        }
        assert!(read("/* a pool */ listen orders").listens);
        assert!(!read("unlisten *").works);
    }

    #[test]
    fn what_adds_rows_is_known_or_said_by_the_answer() {
        for sql in [
            "insert into t values (1)",
            "-- a job\ninsert into t select * from s on conflict do nothing",
            "copy t (a) from stdin",
            "begin; insert into t values (1); commit",
        ] {
            assert_eq!(adds(sql), Adds::Counted, "{sql}");
        }
        let within = "with a as (insert into t values (1) returning a) select * from a";
        assert_eq!(adds(within), Adds::Untold);
        for sql in [
            "select 'insert into t'",
            "update t set a = 1",
            "insert into t values (1) on conflict (a) do update set b = 2",
            "with a as (insert into t values (1) on conflict do nothing returning a) table a",
            "copy t to stdout",
            "",
        ] {
            assert_eq!(adds(sql), Adds::Nothing, "{sql}");
        }
    }

    #[test]
    fn several_statements_in_one_query_are_read_together() {
        let both = read("insert into t values (1); select 1");
        assert_eq!((both.verb, both.writes), (Verb::Statement, true));
        let open = read("begin; insert into t values (1)");
        assert_eq!((open.verb, open.writes), (Verb::Statement, false));
        assert_eq!(
            verb("begin; insert into t values (1); commit"),
            Verb::Commit
        );
        assert_eq!(verb("commit; begin"), Verb::Commit);
        assert_eq!(verb("begin; select 1; rollback"), Verb::Statement);
        assert_eq!(verb("rollback"), Verb::Rollback);
        assert_eq!(verb("-- nothing\n ; /* at all */"), Verb::Nothing);
        assert_eq!(verb("select 'unfinished"), Verb::Statement);
        assert_eq!(verb("/* unfinished"), Verb::Nothing);
    }
}
