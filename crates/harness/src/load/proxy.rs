//! Connections that can be cut: between a process and a server stands a port of the harness, where
//! the scenario parts the two. All other processes talk to the servers themselves, so that nothing is
//! measured that would not be there in production.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redeliver_sim::fault::Kind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::scenario::Scenario;

/// The server that a target names.
const OF_DATABASE: &str = "@database";

/// One process's way to one server.
#[derive(Debug)]
struct Proxy {
    process: String,
    database: bool,
    /// The server's URL through it.
    url: String,
    /// Whether the two are parted.
    parted: watch::Sender<bool>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections that were cut.
    cut: AtomicU64,
    /// It has connected again since a cut.
    back: AtomicBool,
    /// It was cut off and has not been seen to come back.
    waits: AtomicBool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Proxies(Mutex<Vec<Proxy>>);

/// Whether a scenario parts a process from a server.
fn parts(scenario: &Scenario, process: &str, database: bool) -> bool {
    let partitions = scenario
        .events
        .iter()
        .filter(|event| event.kind == Kind::Partition);
    let mut targets = partitions.map(|event| event.target.as_deref().unwrap_or(""));
    targets.any(|target| hits(target, process, database))
}

fn hits(target: &str, process: &str, database: bool) -> bool {
    match target.strip_suffix(OF_DATABASE) {
        Some(prefix) => database && process.starts_with(prefix),
        None => !database && process.starts_with(target),
    }
}

impl Proxies {
    /// Where a process reaches a server: at a port of the harness, where the scenario parts the two;
    /// at `url` itself otherwise.
    ///
    /// # Errors
    /// There is no port of loopback to be had, or the URL names no place.
    pub(super) async fn url(
        &self,
        scenario: &Scenario,
        (process, database): (&str, bool),
        (url, server): (&str, (&str, u16)),
    ) -> std::io::Result<String> {
        if !parts(scenario, process, database) {
            return Ok(url.to_owned());
        }
        if let Some(known) = self.find(process, database) {
            return Ok(known);
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (parted, is_parted) = watch::channel(false);
        let state = Arc::new(State::default());
        let (host, port) = (server.0.to_owned(), server.1);
        tokio::spawn(accept(listener, (host, port), is_parted, state.clone()));
        let text = through(url, address);
        let text = text.ok_or_else(|| std::io::Error::other("the URL names no place"))?;
        self.lock().push(Proxy {
            process: process.to_owned(),
            database,
            url: text.clone(),
            parted,
            state,
        });
        Ok(text)
    }

    fn find(&self, process: &str, database: bool) -> Option<String> {
        let all = self.lock();
        let known = all
            .iter()
            .find(|it| it.process == process && it.database == database);
        known.map(|it| it.url.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Proxy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parts processes from a server, or joins them again; gives the names of those that are.
    pub(super) fn part(&self, target: &str, parted: bool) -> Vec<String> {
        let all = self.lock();
        let hit = all
            .iter()
            .filter(|it| hits(target, &it.process, it.database));
        let hit = hit.map(|it| {
            if parted {
                it.state.waits.store(true, Ordering::Relaxed);
                it.state.back.store(false, Ordering::Relaxed);
            }
            it.parted.send_replace(parted);
            it.process.clone()
        });
        hit.collect()
    }

    /// Processes that were cut off and have connected again since.
    pub(super) fn came_back(&self) -> Vec<(String, String)> {
        let all = self.lock();
        let back = all.iter().filter(|it| {
            let back = it.state.back.load(Ordering::Relaxed);
            back && it.state.waits.swap(false, Ordering::Relaxed)
        });
        let tell = |it: &Proxy| {
            let cut = it.state.cut.swap(0, Ordering::Relaxed);
            let saw = format!("it connected again, after {cut} of its connections were cut");
            (it.process.clone(), saw)
        };
        back.map(tell).collect()
    }
}

/// The URL with another place in it.
fn through(url: &str, address: SocketAddr) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let user = authority
        .rsplit_once('@')
        .map(|(user, _)| format!("{user}@"));
    Some(format!(
        "{scheme}://{}{address}{path}",
        user.unwrap_or_default()
    ))
}

async fn accept(
    listener: TcpListener,
    server: (String, u16),
    parted: watch::Receiver<bool>,
    state: Arc<State>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if *parted.borrow() {
            // Closed at once, as where nobody listens.
            continue;
        }
        state.back.store(true, Ordering::Relaxed);
        tokio::spawn(carry(client, server.clone(), parted.clone(), state.clone()));
    }
}

/// Carries bytes both ways until one side ends, or the two are parted.
async fn carry(
    mut client: TcpStream,
    server: (String, u16),
    mut parted: watch::Receiver<bool>,
    state: Arc<State>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = parted.wait_for(|parted| *parted) => {
            state.cut.fetch_add(1, Ordering::Relaxed);
            // Dropped here: both ends see the connection close without a word of either protocol.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_a_url_changes() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        let through = |url| through(url, address).expect("a URL");
        assert_eq!(
            through("amqp://a:b%40@h:5672/%2f?x=1"),
            "amqp://a:b%40@127.0.0.1:7/%2f?x=1"
        );
        assert_eq!(through("postgres://h/db"), "postgres://127.0.0.1:7/db");
        assert_eq!(through("amqp://h"), "amqp://127.0.0.1:7");
    }

    #[test]
    fn a_target_names_processes_and_one_server() {
        assert!(hits("relay@database", "relay-1", true));
        assert!(!hits("relay@database", "relay-1", false));
        assert!(hits("", "relay-1", false) && !hits("", "relay-1", true));
    }
}
