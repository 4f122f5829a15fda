//! Random programs: whatever clients do, every copy stays in one place and nothing is lost
//! without an entry in the ledger.

use proptest::prelude::*;

use super::*;

const QUEUES: [&str; 6] = ["plain", "limited", "ttl", "quorum", "strict", "dead"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish {
        client: usize,
        queue: usize,
        expiration: Option<u32>,
        fan_out: bool,
    },
    Consume {
        client: usize,
        queue: usize,
        prefetch: u16,
    },
    Cancel {
        client: usize,
    },
    Get {
        client: usize,
        queue: usize,
    },
    Settle {
        client: usize,
        back: u64,
        how: u8,
    },
    Advance {
        ms: u64,
    },
    Reopen {
        client: usize,
        how: u8,
    },
    Purge {
        queue: usize,
    },
    Alarm {
        on: bool,
    },
    Restart,
    Lose {
        queue: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (client, queue) = (0..3_usize, 0..QUEUES.len());
    prop_oneof![
        8 => (client.clone(), queue.clone(), prop::option::of(0..2000_u32), any::<bool>()).prop_map(
            |(client, queue, expiration, fan_out)| {
                let fan_out = fan_out && queue == 0;
                Step::Publish { client, queue, expiration, fan_out }
            }
        ),
        3 => (client.clone(), queue.clone(), 0..4_u16)
            .prop_map(|(client, queue, prefetch)| Step::Consume { client, queue, prefetch }),
        1 => client.clone().prop_map(|client| Step::Cancel { client }),
        3 => (client.clone(), queue.clone())
            .prop_map(|(client, queue)| Step::Get { client, queue }),
        9 => (client.clone(), 0..4_u64, 0..9_u8)
            .prop_map(|(client, back, how)| Step::Settle { client, back, how }),
        4 => (0..1500_u64).prop_map(|ms| Step::Advance { ms }),
        1 => (client, 0..3_u8).prop_map(|(client, how)| Step::Reopen { client, how }),
        1 => queue.clone().prop_map(|queue| Step::Purge { queue }),
        1 => any::<bool>().prop_map(|on| Step::Alarm { on }),
        1 => Just(Step::Restart),
        1 => queue.prop_map(|queue| Step::Lose { queue }),
    ]
}

struct World {
    rig: Rig,
    clients: Vec<ChanId>,
    outputs: Vec<Output>,
    now: u64,
    published: u64,
}

impl World {
    fn new(profile: Profile) -> Self {
        let mut rig = Rig::with(profile);
        let limits = Limits {
            consumer_timeout_ns: Some(3 * S),
            channel_tick_ns: S,
            dead_letter_retry_ns: S,
            ..Limits::default()
        };
        rig.broker.set_limits(limits);
        let dead = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        let with = |more: &[(&'static str, AMQPValue)]| [&dead[..], more].concat();
        rig.queue("plain", &[]);
        rig.queue("limited", &with(&[("x-max-length", int(2))]));
        rig.queue("ttl", &with(&[("x-message-ttl", int(700))]));
        rig.quorum("quorum", &with(&[("x-delivery-limit", int(2))]));
        let strict = [
            ("x-overflow", text("reject-publish")),
            ("x-max-length", int(3)),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        rig.quorum("strict", &with(&strict));
        let refusing = [
            ("x-overflow", text("reject-publish")),
            ("x-max-length", int(4)),
        ];
        rig.queue("dead", &refusing);
        for queue in ["plain", "limited", "quorum"] {
            rig.broker
                .queue_bind(rig.chan, queue, "amq.fanout", "", table(&[]))
                .unwrap();
        }
        let clients = (0..3).map(|_| rig.client()).collect();
        World {
            rig,
            clients,
            outputs: Vec::new(),
            now: 0,
            published: 0,
        }
    }

    fn channel(&mut self, client: usize) -> ChanId {
        if !self.rig.broker.is_open(self.clients[client]) {
            self.clients[client] = self.rig.client();
            self.rig
                .broker
                .confirm_select(self.clients[client])
                .unwrap();
        }
        self.clients[client]
    }

    fn publish(&mut self, client: usize, queue: usize, expiration: Option<u32>, fan_out: bool) {
        let chan = self.channel(client);
        self.published += 1;
        let id = format!("m{}", self.published);
        let exchange = if fan_out { "amq.fanout" } else { "" };
        let mut publish = message(exchange, QUEUES[queue], &id);
        publish.properties.expiration = expiration.map(|ms| ms.to_string().into());
        let _ = self.rig.broker.publish(chan, publish);
    }

    fn settle(&mut self, client: usize, back: u64, how: u8) {
        let chan = self.channel(client);
        let broker = &mut self.rig.broker;
        let Some(channel) = broker.channel_ref(chan) else {
            return;
        };
        let held: Vec<u64> = channel.outstanding.iter().map(|(tag, _)| tag).collect();
        // Beyond what is held the tag is unknown, and the channel closes.
        let tag = held.iter().rev().nth(back as usize).copied().unwrap_or(0);
        let _ = match how {
            0 | 1 => broker.ack(chan, tag, how == 1),
            2 | 3 => broker.nack(chan, tag, how == 3, true),
            4 => broker.nack(chan, tag, true, false),
            5 => broker.reject(chan, tag, true),
            6 => broker.reject(chan, tag, false),
            _ => broker.ack(chan, tag, true),
        };
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish {
                client,
                queue,
                expiration,
                fan_out,
            } => {
                self.publish(client, queue, expiration, fan_out);
            }
            Step::Consume {
                client,
                queue,
                prefetch,
            } => {
                let chan = self.channel(client);
                self.rig.broker.basic_qos(chan, prefetch, false).unwrap();
                let options = ConsumeOptions {
                    priority: prefetch.into(),
                    ..Default::default()
                };
                let _ = self.rig.broker.consume(chan, QUEUES[queue], "", options);
            }
            Step::Cancel { client } => {
                let chan = self.channel(client);
                let all = self.rig.broker.consumers.iter().flatten();
                let tag = all.filter(|c| c.chan == chan).map(|c| c.tag.clone()).next();
                self.rig
                    .broker
                    .cancel(chan, &tag.unwrap_or_default())
                    .unwrap();
            }
            Step::Get { client, queue } => {
                let chan = self.channel(client);
                self.rig.broker.get(chan, QUEUES[queue], false).unwrap();
            }
            Step::Settle { client, back, how } => self.settle(client, back, how),
            Step::Advance { ms } => {
                self.now += ms * MS;
                self.rig.broker.advance(self.now);
            }
            Step::Reopen { client, how } => {
                let chan = self.channel(client);
                match how {
                    0 => self.rig.broker.sever(chan.conn),
                    1 => self.rig.broker.close_channel(chan).unwrap(),
                    _ => self.rig.broker.close_connection(chan.conn).unwrap(),
                }
            }
            Step::Purge { queue } => {
                let chan = self.channel(0);
                self.rig.broker.queue_purge(chan, QUEUES[queue]).unwrap();
            }
            Step::Alarm { on } => self.rig.broker.block_publishers(on),
            Step::Restart => self.rig.broker.restart(RestartKind::Kill),
            Step::Lose { queue } => {
                self.rig.broker.lose_confirmed(QUEUES[queue], 1);
            }
        }
        self.rig.broker.check_invariants();
        self.rig.broker.take_outputs(&mut self.outputs);
    }

    /// Heals, consumes everything, and adds up.
    fn finish(&mut self) {
        self.rig.broker.block_publishers(false);
        self.rig.broker.restart(RestartKind::Kill);
        for _ in 0..200 {
            // First: what comes back in time is there to be taken.
            self.now += S;
            self.rig.broker.advance(self.now);
            let chan = self.channel(0);
            let left: Vec<_> = QUEUES
                .iter()
                .filter_map(|q| self.rig.broker.get(chan, q, true).unwrap())
                .collect();
            if left.is_empty() && self.rig.broker.next_deadline().is_none() {
                break;
            }
        }
        self.rig.broker.check_invariants();
        let stats = *self.rig.broker.stats();
        assert_eq!(
            stats.enqueued,
            stats.acked + stats.dead_lettered + stats.copies_lost
        );
        for queue in QUEUES {
            assert_eq!(
                self.rig.broker.queue_messages(queue).count(),
                0,
                "{queue} is empty"
            );
        }
        self.check_tags();
    }

    /// Delivery tags rise on each channel, and so do confirms, which the model never coalesces.
    fn check_tags(&self) {
        let mut last = std::collections::BTreeMap::new();
        for output in &self.outputs {
            let (key, tag) = match output {
                Output::Deliver { chan, delivery, .. } => ((*chan, 0), delivery.tag),
                Output::Confirm { chan, tag, .. } => ((*chan, 1), *tag),
                _ => continue,
            };
            let before = last.insert(key, tag).unwrap_or(0);
            assert!(tag > before, "{output:?} after {before}");
        }
    }
}

fn profile() -> impl Strategy<Value = Profile> {
    use Profile::{Rabbit3_10, Rabbit3_13, Rabbit4_0, Rabbit4_3};
    prop::sample::select(vec![Rabbit3_10, Rabbit3_13, Rabbit4_0, Rabbit4_3])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_keep_every_copy_in_one_place(
        profile in profile(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(profile);
        for step in steps {
            world.run(step);
        }
        world.finish();
    }

    #[test]
    fn the_same_program_gives_the_same_outputs(
        profile in profile(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let run = || {
            let mut world = World::new(profile);
            steps.iter().for_each(|&step| world.run(step));
            (world.outputs, *world.rig.broker.stats())
        };
        prop_assert_eq!(run(), run());
    }
}

/// A dead letter that is tried again in the last second of a program.
#[test]
fn a_letter_that_comes_last_is_taken_too() {
    let publish = |queue, expiration, fan_out| Step::Publish {
        client: 0,
        queue,
        expiration,
        fan_out,
    };
    let mut world = World::new(Profile::Rabbit3_10);
    for step in [
        publish(4, None, false),
        publish(0, None, true),
        publish(4, Some(0), false),
        publish(1, Some(0), false),
        publish(0, Some(0), true),
        Step::Get {
            client: 0,
            queue: 3,
        },
        publish(2, None, false),
        publish(2, None, false),
        Step::Consume {
            client: 0,
            queue: 4,
            prefetch: 1,
        },
        publish(0, Some(0), false),
        Step::Restart,
        Step::Purge { queue: 4 },
        Step::Purge { queue: 3 },
        Step::Advance { ms: 700 },
        Step::Purge { queue: 5 },
        Step::Purge { queue: 0 },
    ] {
        world.run(step);
    }
    world.finish();
}
