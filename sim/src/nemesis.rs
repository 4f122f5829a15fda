//! Faults that happen at a time, and the heal that ends them.

use std::sync::Arc;

use crate::broker::{Broker, ChanId, RestartKind};
use crate::choice::{Site, below};
use crate::fault::{Event, Kind};
use crate::process::ProcessId;
use crate::world::World;

const SITE_TARGET: Site = Site::new("nemesis.target");

/// How long a process that is asked to stop may take.
const POLITE: u64 = 30_000_000_000;

impl World {
    /// Plans an event. Nothing happens if the world has healed before.
    pub fn plan(&mut self, event: Event) {
        let at = event.at;
        self.at(at, move |w| {
            if !w.is_healed() {
                w.happen(&event);
            }
        });
    }

    fn happen(&mut self, event: &Event) {
        let until = self.now().saturating_add(event.lasts);
        let target = event.target.clone();
        self.count_fault(event.kind, event.lasts);
        self.trace_world("fault", [event.kind as u64, event.lasts], || {
            let name = event.kind.as_str();
            let whom = target
                .as_deref()
                .map_or(String::new(), |t| format!(" of {t}"));
            format!("{name}{whom} for {} ms", event.lasts / 1_000_000)
        });
        match event.kind {
            Kind::ServiceDown => self.services.down(target.as_deref(), until),
            Kind::BrokerRestart => self.broker_down(RestartKind::Graceful, until),
            Kind::BrokerKill => self.broker_down(RestartKind::Kill, until),
            Kind::LeaderChange => self.change_leader(target.as_deref().unwrap_or("")),
            Kind::BlockedPublishers => {
                self.broker(|b| b.block_publishers(true));
                self.at(until, |w| w.broker(|b| b.block_publishers(false)));
            }
            Kind::UnboundQueue => self.unbind(target, until),
            Kind::Partition => self.part(target, until),
            Kind::FailOver => {
                self.fail_over(usize::try_from(event.amount).unwrap_or(0), until);
            }
            Kind::ClockSkew => {
                for id in self.targets(target.as_deref()) {
                    self.set_skew(id, event.amount);
                    self.at(until, move |w| w.set_skew(id, 0));
                }
            }
            Kind::ClockJump => {
                for id in self.targets(target.as_deref()) {
                    self.set_skew(id, event.amount);
                }
            }
            Kind::RollingDeploy => self.deploy(target.as_deref(), event.lasts),
            Kind::LostConfirmed => {
                let queue = target.unwrap_or_else(|| Arc::from(""));
                let n = usize::try_from(event.amount).unwrap_or(0);
                self.broker(|b| b.lose_confirmed(&queue, n));
            }
            Kind::Crash => {
                let restart = self.restart_after();
                for id in self.targets(target.as_deref()) {
                    self.crash(id, Some(restart.max(event.lasts)));
                }
            }
            Kind::Pause => {
                for id in self.targets(target.as_deref()) {
                    self.pause(id, event.lasts);
                }
            }
            // The rest strikes at seams, by rules.
            _ => {}
        }
    }

    /// The processes that an event is aimed at: all whose name starts so, or one by chance.
    fn targets(&mut self, prefix: Option<&str>) -> Vec<ProcessId> {
        let all: Vec<_> = self.process_names().collect();
        if let Some(prefix) = prefix {
            return all
                .into_iter()
                .filter(|(_, n)| n.starts_with(prefix))
                .map(|p| p.0)
                .collect();
        }
        let now = self.now();
        let draw = self.choices().pure(&[SITE_TARGET.id, now]);
        let at = below(draw, all.len() as u64) as usize;
        all.get(at).map(|p| p.0).into_iter().collect()
    }

    /// A new leader has no channels: what consumers hold of the queue comes back to it.
    fn change_leader(&mut self, prefix: &str) {
        for conn in self.connections_of(prefix) {
            self.sever(conn);
        }
    }

    fn part(&mut self, target: Option<Arc<str>>, until: u64) {
        // `name@database` parts from the database, everything else from the broker.
        let target = target.unwrap_or_else(|| Arc::from(""));
        match target.strip_suffix("@database") {
            Some(prefix) => self.partition_database(&Arc::from(prefix), until),
            None => self.partition(&target, until),
        }
    }

    fn unbind(&mut self, queue: Option<Arc<str>>, until: u64) {
        let queue = queue.unwrap_or_else(|| Arc::from(""));
        for (exchange, key, arguments) in self.net.broker.bindings_of(&queue) {
            self.administer(|b, admin| {
                b.queue_unbind(admin, &queue, &exchange, &key, arguments.clone())
            });
            let queue = queue.clone();
            let bind = move |w: &mut Self| {
                w.administer(|b, admin| b.queue_bind(admin, &queue, &exchange, &key, arguments));
            };
            self.on_heal_or_at(until, bind);
        }
    }

    /// Does something to the broker from outside, on a channel of its own: one that was opened
    /// before may have died with the broker.
    fn administer<T, E: std::fmt::Debug>(
        &mut self,
        act: impl FnOnce(&mut Broker, ChanId) -> Result<T, E>,
    ) {
        let done = self.broker(|b| {
            let conn = b.connect();
            let admin = b
                .open_channel(conn)
                .expect("a new connection has a channel");
            act(b, admin)
        });
        self.adopt_admin();
        done.expect("what stands in the broker can be unbound and bound");
    }

    fn deploy(&mut self, role: Option<&str>, lasts: u64) {
        let targets = self.targets(Some(role.unwrap_or("")));
        let gap = lasts / (targets.len() as u64).max(1);
        let restart = self.restart_after();
        for (i, id) in targets.into_iter().enumerate() {
            let at = self.now() + gap * i as u64;
            let incarnation = self.incarnation(id);
            self.at(at, move |w| w.stop_and_start(id, incarnation, restart));
        }
    }

    fn stop_and_start(&mut self, id: ProcessId, incarnation: u32, restart: u64) {
        if !self.is_alive(id, incarnation) {
            return;
        }
        self.request_stop(id);
        let give_up = self.now() + POLITE;
        self.wait_for_stop(id, incarnation, restart, give_up);
    }

    fn wait_for_stop(&mut self, id: ProcessId, incarnation: u32, restart: u64, give_up: u64) {
        if !self.is_alive(id, incarnation) {
            return;
        }
        let now = self.now();
        if self.has_ended(id) || now >= give_up {
            self.crash(id, Some(restart));
            return;
        }
        self.at(now + 50_000_000, move |w| {
            w.wait_for_stop(id, incarnation, restart, give_up)
        });
    }
}
