//! What `/proc` tells of processes.

use std::net::ToSocketAddrs;

use rustix::process::Pid;

/// What the system tells of a process, behind its name.
pub(super) fn stat_of(pid: Pid) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Its name stands in parentheses and may hold anything.
    text.rsplit_once(')').map(|(_, behind)| behind.to_owned())
}

/// CPU that a process has used, in milliseconds; none where it is gone.
pub(super) fn cpu_of(pid: Pid) -> Option<u64> {
    used(&stat_of(pid)?, 2)
}

/// The first of four figures of CPU: of the process in user and system mode, and of its children that
/// are gone in both.
fn used(stat: &str, figures: usize) -> Option<u64> {
    let fields = stat.split_whitespace().skip(11).take(figures);
    let all: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some(all?.iter().sum::<u64>() * 1_000 / ticks)
}

/// A server of this machine: the process that listens on its port, and all that descend from it.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    listener: Option<Pid>,
    /// What former starts of it have used, and what this one had used when it was seen last.
    before: u64,
    last: u64,
}

impl Server {
    pub(super) fn at((host, port): (&str, u16)) -> Self {
        Self {
            host: host.to_owned(),
            port,
            listener: None,
            before: 0,
            last: 0,
        }
    }

    /// CPU that it has used, in milliseconds; none where it is on another machine, or the system does
    /// not let us see it.
    pub(super) fn cpu(&mut self) -> Option<u64> {
        let alive = self.listener.filter(|pid| stat_of(*pid).is_some());
        if alive.is_none() {
            self.before += std::mem::take(&mut self.last);
            self.listener = self.find();
        }
        self.last = tree(self.listener?)?.max(self.last);
        Some(self.before + self.last)
    }

    fn find(&self) -> Option<Pid> {
        let mut places = (self.host.as_str(), self.port).to_socket_addrs().ok()?;
        if !places.any(|place| place.ip().is_loopback()) {
            return None;
        }
        let socket = format!("socket:[{}]", listening(self.port)?);
        let mut processes = std::fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                Some((Pid::from_raw(pid)?, entry.path().join("fd")))
            });
        let has = |folder: &std::path::Path| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            targets.any(|target| target.as_os_str() == socket.as_str())
        };
        // Of several that hold it, the first is the one that has forked the others.
        processes
            .find(|(_, folder)| has(folder))
            .map(|(pid, _)| pid)
    }
}

/// The socket that listens on a port, by its number.
fn listening(port: u16) -> Option<u64> {
    const LISTENS: &str = "0A";
    let of = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().skip(1).find_map(|line| {
            let mut fields = line.split_whitespace();
            let place = fields.nth(1)?;
            let state = fields.nth(1)?;
            let number = u16::from_str_radix(place.rsplit_once(':')?.1, 16).ok()?;
            (number == port && state == LISTENS).then(|| fields.nth(5)?.parse().ok())?
        })
    };
    of("/proc/net/tcp").or_else(|| of("/proc/net/tcp6"))
}

/// CPU of a process, its children that are gone, and all that descend from it and live.
fn tree(root: Pid) -> Option<u64> {
    let mut all: Vec<(Pid, Pid, u64)> = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Some(pid) = Pid::from_raw(pid) else {
            continue;
        };
        let Some(stat) = stat_of(pid) else { continue };
        let parent = stat
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        if let (Some(parent), Some(used)) = (parent.and_then(Pid::from_raw), used(&stat, 4)) {
            all.push((pid, parent, used));
        }
    }
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        let of = family[at];
        family.extend(
            all.iter()
                .filter(|(_, parent, _)| *parent == of)
                .map(|it| it.0),
        );
        at += 1;
    }
    let own = all.iter().filter(|(pid, ..)| family.contains(pid));
    Some(own.map(|(.., used)| used).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_this_machine_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let mut server = Server::at(("127.0.0.1", port));
        assert!(server.cpu().is_some());
        assert_eq!(server.listener, Some(rustix::process::getpid()));
        // A reserved name, and a port on which nobody listens.
        assert_eq!(Server::at(("192.0.2.1", port)).cpu(), None);
        drop(listener);
        assert_eq!(Server::at(("127.0.0.1", port)).cpu(), None);
    }

    #[test]
    fn own_cpu_grows() {
        let own = rustix::process::getpid();
        let before = cpu_of(own).expect("this process");
        let mut sum = 0u64;
        while cpu_of(own).expect("this process") < before + 30 {
            sum = (0..100_000).fold(sum, |sum, number| sum.wrapping_mul(31) ^ number);
        }
        assert!(sum != 1);
    }
}
