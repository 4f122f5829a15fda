//! The frontend/backend protocol, version 3, as far as round trips must be told apart.
//!
//! The rules are those of "Frontend/Backend Protocol" in PostgreSQL's documentation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::statement::{self, Verb};

/// What a client asks for before its session is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// A session with these parameters: the whole packet.
    Startup(Arc<[u8]>),
    /// Whether the connection can be encrypted. It cannot.
    Encryption,
    /// The statement of this session is to be cancelled.
    Cancel { pid: i32, secret: i32 },
}

const SSL: i32 = 80_877_103;
const GSS: i32 = 80_877_104;
const CANCEL: i32 = 80_877_102;

fn int(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(int(bytes)?).ok()
}

/// Takes the first packet of a connection off `bytes`, if all of it is there.
pub(super) fn hello(bytes: &mut Vec<u8>) -> Option<Hello> {
    let length = length(bytes)?;
    if bytes.len() < length.max(8) {
        return None;
    }
    let packet: Vec<u8> = bytes.drain(..length.max(8)).collect();
    Some(match int(&packet[4..])? {
        SSL | GSS => Hello::Encryption,
        CANCEL => Hello::Cancel {
            pid: int(&packet[8..])?,
            secret: int(&packet[12..])?,
        },
        _ => Hello::Startup(packet.into()),
    })
}

/// A message with its type: the type and the whole length.
pub(super) fn message(bytes: &[u8]) -> Option<(u8, usize)> {
    let whole = length(bytes.get(1..)?)? + 1;
    (bytes.len() >= whole).then_some((bytes[0], whole))
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// What a statement does to its transaction.
/// What a client sends until it waits for an answer: one round trip.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) bytes: Vec<u8>,
    /// How many times the server will be ready for more.
    pub(super) ready: u32,
    pub(super) verb: Verb,
    /// It may change something, and so commits something where it stands alone.
    pub(super) writes: bool,
    /// It listens for notifications.
    pub(super) listens: bool,
    /// Its session was in no transaction when it came.
    pub(super) alone: bool,
    /// It is more than what a pool or a listener sends by itself.
    pub(super) works: bool,
    /// The text of the last statement in it.
    pub(super) sql: Arc<str>,
    /// The client ends its session.
    pub(super) ends: bool,
    /// The client asks for what there is, without an end.
    pub(super) flushes: bool,
}

impl Unit {
    /// Adds what a query does. Several may be sent before the client waits: that one of them commits
    /// outranks the rest.
    fn carries(&mut self, sql: &str) {
        let read = statement::read(sql);
        self.writes |= read.writes;
        self.listens |= read.listens;
        self.works |= read.works;
        self.verb = match (self.verb, read.verb) {
            (Verb::Commit, _) | (_, Verb::Commit) => Verb::Commit,
            (Verb::Nothing, verb) => verb,
            (before, Verb::Nothing) => before,
            (before, verb) if before == verb => verb,
            _ => Verb::Statement,
        };
    }
}

/// What a session has prepared and bound.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: BTreeMap<Vec<u8>, Arc<str>>,
    bound: Option<Arc<str>>,
    /// The COPY for whose rows the server waits.
    pub(super) copying: Option<Arc<str>>,
    /// Whether that was asked for by a simple query: then the last row is the end.
    simple: bool,
}

impl Prepared {
    /// Takes one round trip off `bytes`, if all of it is there.
    pub(super) fn unit(&mut self, bytes: &mut Vec<u8>) -> Option<Unit> {
        let mut at = 0;
        let mut unit = Unit {
            bytes: Vec::new(),
            ready: 0,
            verb: Verb::Nothing,
            writes: false,
            listens: false,
            alone: false,
            works: false,
            sql: Arc::from(""),
            ends: false,
            flushes: false,
        };
        loop {
            let (kind, whole) = message(&bytes[at..])?;
            let body = &bytes[at + 5..at + whole];
            let over = self.take(kind, body, &mut unit);
            at += whole;
            if over {
                unit.bytes = bytes.drain(..at).collect();
                return Some(unit);
            }
        }
    }

    fn take(&mut self, kind: u8, body: &[u8], unit: &mut Unit) -> bool {
        match kind {
            b'Q' => {
                let sql = text(body).map_or("".into(), |(sql, _)| readable(sql));
                unit.carries(&sql);
                unit.sql = sql;
                unit.ready = 1;
                self.simple = true;
                true
            }
            b'S' => {
                unit.ready = 1;
                true
            }
            b'X' => {
                unit.ends = true;
                true
            }
            b'H' => {
                unit.flushes = true;
                true
            }
            b'c' | b'f' => {
                let Some(sql) = self.copying.take() else {
                    return false;
                };
                unit.ready = 1;
                (unit.verb, unit.sql) = (Verb::Rows, sql);
                unit.works = true;
                self.simple
            }
            b'P' => {
                if let Some((name, rest)) = text(body)
                    && let Some((sql, _)) = text(rest)
                {
                    let sql = readable(sql);
                    unit.sql = sql.clone();
                    self.statements.insert(name.to_vec(), sql);
                }
                false
            }
            b'B' => {
                let name = text(body).and_then(|(_, rest)| text(rest));
                self.bound = name.and_then(|(name, _)| self.statements.get(name).cloned());
                false
            }
            b'E' => {
                self.simple = false;
                unit.sql = self.bound.clone().unwrap_or_default();
                let sql = unit.sql.clone();
                unit.carries(&sql);
                false
            }
            _ => false,
        }
    }
}

fn readable(sql: &[u8]) -> Arc<str> {
    Arc::from(String::from_utf8_lossy(sql))
}

/// A packet of the world's own: its kind, where it has one, its length, its body.
fn packet(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("what the world itself says is short");
    let mut packet = Vec::with_capacity(body.len() + 5);
    packet.extend(kind);
    packet.extend(length.to_be_bytes());
    packet.extend(body);
    packet
}

fn ended(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().chain([0])
}

/// A simple query.
pub(super) fn query(sql: &str) -> Vec<u8> {
    packet(Some(b'Q'), &ended(sql).collect::<Vec<_>>())
}

/// Ends the rows of a COPY: none of them is to be kept.
pub(super) fn copy_fail() -> Vec<u8> {
    packet(Some(b'f'), b"its client has gone\0")
}

/// Asks for nothing but whether the server is ready.
pub(super) const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

/// The server is ready; the state of the transaction.
pub(super) fn ready(status: u8) -> Vec<u8> {
    packet(Some(b'Z'), &[status])
}

/// A startup packet.
pub(super) fn startup(user: &str, database: &str) -> Arc<[u8]> {
    let mut body = 196_608_i32.to_be_bytes().to_vec();
    for (name, value) in [
        ("user", user),
        ("database", database),
        ("client_encoding", "UTF8"),
    ] {
        body.extend(ended(name).chain(ended(value)));
    }
    body.push(0);
    packet(None, &body).into()
}

/// An error that the world itself reports to a client.
pub(super) fn error(severity: &str, code: &str, message: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, text) in [
        (b'S', severity),
        (b'V', severity),
        (b'C', code),
        (b'M', message),
    ] {
        body.push(field);
        body.extend(ended(text));
    }
    body.push(0);
    packet(Some(b'E'), &body)
}

/// The key by which a session can be cancelled.
pub(super) fn backend_key(pid: i32, secret: i32) -> Vec<u8> {
    packet(
        Some(b'K'),
        &[pid.to_be_bytes(), secret.to_be_bytes()].concat(),
    )
}

/// The number of the server's process in its greeting.
pub(super) fn pid_of(greeting: &[u8]) -> Option<i32> {
    messages(greeting).find_map(|(kind, body)| (kind == b'K').then(|| int(body))?)
}

/// Types and bodies of whole messages.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, whole) = message(bytes)?;
        let body = &bytes[5..whole];
        bytes = &bytes[whole..];
        Some((kind, body))
    })
}

/// The texts of a row's columns.
pub(super) fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut columns = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some(length) = int(rest) {
        rest = &rest[4..];
        let Ok(length) = usize::try_from(length) else {
            columns.push(None);
            continue;
        };
        let (value, after) = rest.split_at(length.min(rest.len()));
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    columns
}

/// A field of an error or a notice.
pub(super) fn field(mut body: &[u8], wanted: u8) -> Option<String> {
    loop {
        let (&kind, rest) = body.split_first()?;
        let (value, after) = text(rest)?;
        if kind == wanted {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        body = after;
    }
}

/// The server's greeting, with a key of the world's.
pub(super) fn greeting(told: &[u8], (pid, secret): (i32, i32)) -> Vec<u8> {
    let mut greeting = Vec::with_capacity(told.len());
    let mut rest = told;
    while let Some((kind, whole)) = message(rest) {
        match kind {
            b'K' => greeting.extend(backend_key(pid, secret)),
            _ => greeting.extend_from_slice(&rest[..whole]),
        }
        rest = &rest[whole..];
    }
    greeting
}
