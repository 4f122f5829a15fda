//! Does anything answer there?

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

use super::sheet::Finding;
use super::{BOUND, within};

/// Looks the name up and connects; gives the first address that answers.
pub(super) async fn check(
    host: &str,
    port: u16,
    server: &str,
    variable: &str,
) -> Result<(SocketAddr, Finding), Finding> {
    let address = format!("{host}:{port}");
    let spelled = format!("correct the host in {variable}, or add it to DNS or /etc/hosts");
    let found = match within(BOUND, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => {
            let seen = format!("{host} cannot be resolved: {error}");
            return Err(Finding::missing(seen, spelled));
        }
        Err(late) => {
            let seen = format!("{host} cannot be resolved: {late}");
            return Err(Finding::missing(seen, spelled));
        }
    };
    // A name may stand for several addresses, and the driver would try all of them, too.
    let mut failed = Finding::missing(format!("{host} has no address"), spelled);
    for at in found.into_iter().take(4) {
        match within(BOUND, TcpStream::connect(at)).await {
            Ok(Ok(_)) => return Ok((at, Finding::ok(format!("{address} answers")))),
            Ok(Err(error)) => failed = refused(&address, &error, server, variable),
            Err(late) => {
                let todo = "look for a firewall between here and there, and at the address";
                failed = Finding::missing(format!("{address}: {late}"), todo);
            }
        }
    }
    Err(failed)
}

fn refused(address: &str, error: &std::io::Error, server: &str, variable: &str) -> Finding {
    let todo = format!(
        "start {server} there, or correct {variable}; private servers: scripts/services \
         start; eval \"$(scripts/services env)\""
    );
    let seen = match error.kind() {
        ErrorKind::ConnectionRefused => format!("{address} refuses the connection"),
        _ => format!("{address}: {error}"),
    };
    Finding::missing(seen, todo)
}
