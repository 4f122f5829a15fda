//! What a broker says of itself before anybody has logged in.
//!
//! lapin reads it and keeps it for itself, so a short conversation of our own asks for it: the
//! protocol header goes out, `connection.start` comes back with product and version, and the
//! connection is dropped.

use redeliver_core::boxed::{Boxed, boxed};
use std::net::SocketAddr;

use lapin::protocol::{AMQPClass, connection::AMQPMethod, parse_class};
use lapin::types::AMQPValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// AMQP 0-9-1.
const HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Type, channel and size of a frame.
const HEAD: usize = 7;
/// No broker's `connection.start` comes near it; what claims more speaks something else.
const LARGEST: usize = 64 * 1024;
/// So much of what is not AMQP is kept, to be shown.
const SHOWN: usize = 40;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// For example `RabbitMQ`.
    pub product: Option<String>,
    /// For example `4.2.2`.
    pub version: Option<String>,
    /// The ways to log in, separated by spaces.
    pub mechanisms: String,
}

/// Why it is not known who answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The connection failed.
    #[error("{0}")]
    Lost(String),
    /// It was closed before anything came.
    #[error("the server closes the connection without a word")]
    Closed,
    /// Another version of AMQP.
    #[error("the server speaks AMQP, but of another version: {0}")]
    OtherVersion(String),
    /// Something that is not AMQP.
    #[error("the server does not speak AMQP; it begins with {0:?}")]
    Foreign(String),
}

/// Asks who answers there. Waits for as long as the server is silent: the caller sets the bound.
///
/// # Errors
/// [`GreetingError`] where that is no broker of AMQP 0-9-1.
pub fn greeting(at: SocketAddr) -> Boxed<'static, Result<Greeting, GreetingError>> {
    boxed(async move {
        let lost = |error: std::io::Error| GreetingError::Lost(error.to_string());
        let mut stream = TcpStream::connect(at).await.map_err(lost)?;
        stream.write_all(HEADER).await.map_err(lost)?;
        read(&mut stream).await
    })
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Greeting, GreetingError> {
    let first = take(stream, HEAD).await?;
    if first.starts_with(b"AMQP") {
        let rest = take(stream, 1).await.unwrap_or_default();
        let version = first[4..].iter().chain(&rest).map(u8::to_string);
        let version = version.collect::<Vec<_>>().join("-");
        return Err(GreetingError::OtherVersion(version));
    }
    // A method frame on channel 0.
    let size = match *first.as_slice() {
        [1, 0, 0, a, b, c, d] => u32::from_be_bytes([a, b, c, d]) as usize,
        _ => LARGEST + 1,
    };
    if size > LARGEST {
        return Err(foreign(stream, first).await);
    }
    let body = take(stream, size).await?;
    match parse_class(&body[..]) {
        Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) => {
            let text = |name: &str| match start.server_properties.inner().get(name) {
                Some(AMQPValue::LongString(text)) => Some(text.to_string()),
                _ => None,
            };
            Ok(Greeting {
                product: text("product"),
                version: text("version"),
                mechanisms: start.mechanisms.to_string(),
            })
        }
        _ => Err(foreign(stream, body).await),
    }
}

/// Reads up to `count` bytes; fewer only where the server has closed.
async fn take(
    stream: &mut (impl AsyncRead + Unpin),
    count: usize,
) -> Result<Vec<u8>, GreetingError> {
    let mut bytes = Vec::new();
    let read = stream.take(count as u64).read_to_end(&mut bytes).await;
    match read {
        Err(_) | Ok(0) if bytes.is_empty() && count > 0 => Err(GreetingError::Closed),
        _ => Ok(bytes),
    }
}

/// Shows how it begins. Does not wait for more: some servers greet in a few bytes and then listen.
async fn foreign(stream: &mut (impl AsyncRead + Unpin), mut bytes: Vec<u8>) -> GreetingError {
    let more = std::time::Duration::from_millis(200);
    // Whatever has come by then is enough.
    let _ = tokio::time::timeout(more, stream.read_buf(&mut bytes)).await;
    bytes.truncate(SHOWN);
    GreetingError::Foreign(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(mut bytes: &[u8]) -> Result<Greeting, GreetingError> {
        read(&mut bytes).await
    }

    /// `connection.start` with these server properties.
    fn start(product: &str, version: &str) -> Vec<u8> {
        let mut table = Vec::new();
        for (name, value) in [("product", product), ("version", version)] {
            table.push(name.len() as u8);
            table.extend_from_slice(name.as_bytes());
            table.push(b'S');
            table.extend_from_slice(&(value.len() as u32).to_be_bytes());
            table.extend_from_slice(value.as_bytes());
        }
        let mut method = vec![0, 10, 0, 10, 0, 9];
        for part in [&table[..], b"PLAIN AMQPLAIN", b"en_US"] {
            method.extend_from_slice(&(part.len() as u32).to_be_bytes());
            method.extend_from_slice(part);
        }
        let mut frame = vec![1, 0, 0];
        frame.extend_from_slice(&(method.len() as u32).to_be_bytes());
        frame.extend_from_slice(&method);
        frame.push(0xCE);
        frame
    }

    #[tokio::test]
    async fn a_broker_names_itself() {
        let greeting = told(&start("RabbitMQ", "4.2.2")).await.expect("a greeting");
        assert_eq!(greeting.product.as_deref(), Some("RabbitMQ"));
        assert_eq!(greeting.version.as_deref(), Some("4.2.2"));
        assert_eq!(greeting.mechanisms, "PLAIN AMQPLAIN");
    }

    #[tokio::test]
    async fn what_is_no_broker_is_told_apart() {
        assert_eq!(told(b"").await, Err(GreetingError::Closed));
        let other = GreetingError::OtherVersion("0-1-0-0".to_owned());
        assert_eq!(told(b"AMQP\x00\x01\x00\x00").await, Err(other));
        for foreign in [
            &b"HTTP/1.1 400 Bad Request"[..],
            b"\x01",
            b"\x01\0\0\xff\xff\xff\xff",
        ] {
            let told = told(foreign).await;
            assert!(matches!(told, Err(GreetingError::Foreign(_))), "{told:?}");
        }
        // A frame that ends too soon, or holds another method.
        let mut cut = start("RabbitMQ", "4.2.2");
        cut.truncate(30);
        assert!(matches!(told(&cut).await, Err(GreetingError::Foreign(_))));
    }
}
