//! What the service is told by its environment.

use std::net::SocketAddr;

use redeliver::rabbitmq::lapin::LapinAmqp;
use sqlx::postgres::PgConnectOptions;

/// A variable that the service cannot work with. It repeats no address: that may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{0} is not set; it is to look like {1}")]
    Missing(&'static str, &'static str),
    #[error("{0} cannot be understood; it is to look like {1}")]
    Malformed(&'static str, &'static str),
}

/// How an address of the broker looks.
const AMQP: &str = "amqp://user:password@host:5672/%2f";
/// How an address of the database looks.
const DATABASE: &str = "postgres://user:password@host/database";

/// Everything that differs from one place to another.
#[derive(Debug)]
pub(crate) struct Config {
    /// `AMQP_URL`.
    pub(crate) amqp: LapinAmqp,
    /// `DATABASE_URL`.
    pub(crate) database: PgConnectOptions,
    /// `LISTEN`; loopback where nothing is said.
    pub(crate) listen: SocketAddr,
    /// `NAMESPACE`: the schema of all tables, and the beginning of every name on the broker.
    pub(crate) namespace: String,
    /// `INSTANCE`: how this process is called in logs and leases.
    pub(crate) instance: String,
}

/// A variable of the environment. An empty one counts as not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    Some(value).filter(|value| !value.is_empty())
}

impl Config {
    /// Reads all of it, and checks what can be checked without a server.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Wrong> {
        let amqp = get("AMQP_URL").ok_or(Wrong::Missing("AMQP_URL", AMQP))?;
        let amqp = LapinAmqp::new(&amqp).map_err(|_| Wrong::Malformed("AMQP_URL", AMQP))?;
        let database = get("DATABASE_URL").ok_or(Wrong::Missing("DATABASE_URL", DATABASE))?;
        let database = database.parse();
        let database = database.map_err(|_| Wrong::Malformed("DATABASE_URL", DATABASE))?;

        let listen = get("LISTEN").unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let listen = listen.parse();
        let listen = listen.map_err(|_| Wrong::Malformed("LISTEN", "127.0.0.1:8080"))?;
        let namespace = get("NAMESPACE").unwrap_or_else(|| "shop".to_owned());
        if !is_schema(&namespace) {
            return Err(Wrong::Malformed("NAMESPACE", "shop_1"));
        }
        Ok(Self {
            amqp,
            database,
            listen,
            namespace,
            instance: get("INSTANCE").unwrap_or_else(|| "service".to_owned()),
        })
    }
}

/// Whether PostgreSQL takes it as the name of a schema without quotes.
fn is_schema(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let fits = |b: u8| letter(b) || b.is_ascii_digit();
    name.len() <= 63 && name.bytes().next().is_some_and(letter) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changed: &str, value: Option<&str>) -> Result<Config, Wrong> {
        Config::read(|name| match name {
            name if name == changed => value.map(str::to_owned),
            "AMQP_URL" => Some("amqp://guest:guest@localhost/%2f".to_owned()),
            "DATABASE_URL" => Some("postgres://shop:secret@localhost/shop".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn two_addresses_are_enough() {
        let config = read("", None).expect("both are given");
        assert!(config.listen.ip().is_loopback());
        assert_eq!((&*config.namespace, &*config.instance), ("shop", "service"));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named_without_its_value() {
        let cases = [
            ("AMQP_URL", None),
            ("AMQP_URL", Some("guest:secret@localhost")),
            ("DATABASE_URL", None),
            ("DATABASE_URL", Some("shop secret localhost")),
            ("LISTEN", Some("secret")),
            ("NAMESPACE", Some("secret; drop")),
        ];
        for (name, value) in cases {
            let wrong = read(name, value).expect_err(name).to_string();
            assert!(wrong.starts_with(name), "{name}: {wrong}");
            assert!(!wrong.contains("secret"), "{name}: {wrong}");
        }
    }
}
