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

#[expect(clippy::unnecessary_wraps, reason = "clap asks for a Result")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}
