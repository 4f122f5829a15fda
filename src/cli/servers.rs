//! Where the real servers are: the same options for whoever uses them.

use redeliver_core::secret::Secret;

/// The addresses of both servers, with their passwords.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Servers {
    /// Where the broker is: amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    pub(super) amqp_url: Secret,
    /// Where the database is: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    pub(super) database_url: Secret,
}

/// The same addresses, where servers are not always needed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OptionalServers {
    /// Where the broker is: amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    amqp_url: Option<Secret>,
    /// Where the database is: postgres://user:password@host:port/name
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    #[arg(value_parser = secret)]
    database_url: Option<Secret>,
}

impl OptionalServers {
    /// Both, or which of them is missing.
    pub(super) fn both(&self) -> Result<Servers, &'static str> {
        Ok(Servers {
            amqp_url: self
                .amqp_url
                .clone()
                .ok_or("--amqp-url (or AMQP_URL) is missing")?,
            database_url: self
                .database_url
                .clone()
                .ok_or("--database-url (or DATABASE_URL) is missing")?,
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap asks for a Result")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}
