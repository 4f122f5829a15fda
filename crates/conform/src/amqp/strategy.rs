//! All programs, weighted so that most steps find something to do.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::names::{ARGUMENTS, HEADERS};
use super::program::{
    Again, Binding, DeadLetters, ExchangeShape, ExchangeType, Expiration, Key, Kind, Message,
    Overflow, Program, QueueShape, SLOTS, Step, Verb, Via, WORDS, Which,
};

fn index() -> impl Strategy<Value = usize> + Clone {
    0..3_usize
}

fn chan() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![5 => Just(0), 3 => Just(1), 4 => Just(2), 2 => Just(3)]
}

fn rarely() -> impl Strategy<Value = bool> + Clone {
    prop::bool::weighted(0.1)
}

fn word() -> impl Strategy<Value = Key> {
    // Mostly plain words, so that routing often finds something.
    prop_oneof![6 => 0..3_usize, 1 => 3..WORDS.len()].prop_map(Key::Word)
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![word(), index().prop_map(Key::Queue)]
}

fn via() -> impl Strategy<Value = Via> {
    prop_oneof![
        8 => Just(Via::Default),
        8 => index().prop_map(Via::Exchange),
        1 => Just(Via::Missing),
    ]
}

fn dead_letters() -> impl Strategy<Value = DeadLetters> {
    let to_queue = index().prop_map(|queue| DeadLetters {
        to: Via::Default,
        key: Some(Key::Queue(queue)),
    });
    let any = (via(), option::of(key())).prop_map(|(to, key)| DeadLetters { to, key });
    prop_oneof![2 => to_queue, 1 => any]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    use Overflow::{DropHead, RejectPublish, RejectPublishDlx};
    select(vec![DropHead, RejectPublish, RejectPublishDlx])
}

fn queue() -> impl Strategy<Value = QueueShape> {
    let kind = select(vec![Kind::Classic, Kind::Quorum]);
    let limits = (option::weighted(0.35, 0..4_u8), option::of(overflow()));
    let classic = (prop::bool::weighted(0.8), rarely(), rarely());
    let counts = (option::weighted(0.5, 0..3_u8), prop::bool::weighted(0.15));
    let ttl = prop::bool::weighted(0.15);
    let parts = (
        kind,
        classic,
        ttl,
        limits,
        option::of(dead_letters()),
        counts,
    );
    parts.prop_map(|(kind, classic, ttl, limits, dead_letters, counts)| {
        let quorum = kind == Kind::Quorum;
        let exclusive = !quorum && classic.1;
        QueueShape {
            kind,
            durable: quorum || classic.0,
            exclusive,
            auto_delete: !quorum && classic.2,
            ttl,
            max_length: limits.0,
            overflow: limits.1.filter(|_| limits.0.is_some()),
            dead_letters: dead_letters.filter(|_| !(exclusive && limits.0.is_some())),
            delivery_limit: counts.0.filter(|_| quorum),
            single_active: counts.1,
        }
    })
}

fn exchange() -> impl Strategy<Value = ExchangeShape> {
    use ExchangeType::{Direct, Fanout, Headers, Topic};
    let kind = select(vec![Direct, Fanout, Topic, Headers]);
    let alternate = option::weighted(0.2, index());
    (kind, rarely(), alternate).prop_map(|(kind, internal, alternate)| ExchangeShape {
        kind,
        internal,
        alternate,
    })
}

fn binding() -> impl Strategy<Value = Binding> {
    let key = prop_oneof![
        (0..WORDS.len()).prop_map(Key::Word),
        index().prop_map(Key::Queue)
    ];
    (index(), index(), key, 0..ARGUMENTS).prop_map(|(queue, exchange, key, arguments)| Binding {
        queue,
        exchange,
        key,
        arguments,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let to_queue = index().prop_map(|queue| (Via::Default, Key::Queue(queue)));
    let to = prop_oneof![5 => to_queue, 4 => (via(), key())];
    let expiration = prop_oneof![
        16 => Just(Expiration::None),
        2 => Just(Expiration::Short),
        1 => Just(Expiration::Zero),
        1 => Just(Expiration::Bad),
    ];
    let copies = || prop_oneof![8 => Just(Vec::new()), 1 => vec(key(), 1..3)];
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.7));
    let parts = (to, flags, expiration, 0..HEADERS, copies(), copies());
    parts.prop_map(
        |((to, key), (mandatory, persistent), expiration, headers, cc, bcc)| Message {
            to,
            key,
            mandatory,
            persistent,
            expiration,
            headers,
            cc,
            bcc,
        },
    )
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        14 => (0..4_usize).prop_map(Which::Held),
        2 => Just(Which::Zero),
        1 => Just(Which::Unknown),
        1 => Just(Which::Again),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        3 => Just(Verb::Ack),
        4 => any::<bool>().prop_map(|requeue| Verb::Nack { requeue }),
        3 => any::<bool>().prop_map(|requeue| Verb::Reject { requeue }),
    ]
}

fn again() -> impl Strategy<Value = Again> {
    prop_oneof![
        4 => Just(Again::Same),
        2 => Just(Again::Passive),
        3 => (0..8_usize).prop_map(Again::Otherwise),
        1 => Just(Again::Missing),
        1 => (0..6_usize).prop_map(Again::Bad),
    ]
}

fn traffic() -> impl Strategy<Value = Step> {
    let settle = (chan(), which(), verb(), prop::bool::weighted(0.35));
    let settle = settle.prop_map(|(chan, which, verb, multiple)| Step::Settle {
        chan,
        which,
        verb,
        multiple,
    });
    let consume = (
        chan(),
        index(),
        prop::bool::weighted(0.2),
        rarely(),
        0..3_i32,
    );
    let consume = consume.prop_map(|(chan, queue, no_ack, exclusive, priority)| Step::Consume {
        chan,
        queue,
        no_ack,
        exclusive,
        priority: priority / 2,
    });
    prop_oneof![
        12 => (chan(), message(), 1..4_usize).prop_map(|(chan, message, times)| Step::Publish {
            chan, message, times
        }),
        7 => consume,
        7 => (chan(), index(), prop::bool::weighted(0.2)).prop_map(|(chan, queue, no_ack)| {
            Step::Get { chan, queue, no_ack }
        }),
        13 => settle,
        3 => (chan(), 0..4_u16, rarely()).prop_map(|(chan, prefetch, global)| Step::Qos {
            chan, prefetch, global
        }),
    ]
}

fn upheaval() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (chan(), 0..3_usize).prop_map(|(chan, consumer)| Step::Cancel { chan, consumer }),
        2 => chan().prop_map(|chan| Step::CloseChannel { chan }),
        1 => chan().prop_map(|chan| Step::CloseConnection { chan }),
        2 => (chan(), vec(message(), 0..4))
            .prop_map(|(chan, unheard)| Step::Cut { chan, unheard }),
        2 => (chan(), index(), again())
            .prop_map(|(chan, queue, how)| Step::DeclareQueue { chan, queue, how }),
        1 => (chan(), index(), again())
            .prop_map(|(chan, exchange, how)| Step::DeclareExchange { chan, exchange, how }),
        1 => (chan(), binding()).prop_map(|(chan, binding)| Step::Bind { chan, binding }),
        1 => (chan(), binding()).prop_map(|(chan, binding)| Step::Unbind { chan, binding }),
        1 => (chan(), index()).prop_map(|(chan, queue)| Step::DeleteQueue { chan, queue }),
        1 => (chan(), index()).prop_map(|(chan, exchange)| Step::DeleteExchange { chan, exchange }),
        1 => (chan(), index()).prop_map(|(chan, queue)| Step::Purge { chan, queue }),
        2 => Just(Step::Wait),
    ]
}

/// Steps that belong together, since chance alone would seldom put them in a row.
fn phrase() -> impl Strategy<Value = Vec<Step>> {
    // A message handed out and given back or away, again and again: limits and counts of deaths.
    let again = (chan(), index(), message(), verb(), 1..5_usize);
    let again = again.prop_map(|(chan, queue, message, verb, times)| {
        let message = Message {
            to: Via::Default,
            key: Key::Queue(queue),
            ..message
        };
        let no_ack = false;
        let get = Step::Get {
            chan,
            queue,
            no_ack,
        };
        let settle = Step::Settle {
            chan,
            which: Which::Held(0),
            verb,
            multiple: false,
        };
        let publish = Step::Publish {
            chan,
            message,
            times: 1,
        };
        let mut steps = vec![publish];
        for _ in 0..times {
            steps.extend([get.clone(), settle.clone()]);
        }
        steps.push(get);
        steps
    });
    // More messages than a consumer may hold.
    let held = (chan(), index(), message(), 1..3_u16);
    let held = held.prop_map(|(chan, queue, message, prefetch)| {
        let message = Message {
            to: Via::Default,
            key: Key::Queue(queue),
            ..message
        };
        vec![
            Step::Qos {
                chan,
                prefetch,
                global: false,
            },
            Step::Consume {
                chan,
                queue,
                no_ack: false,
                exclusive: false,
                priority: 0,
            },
            Step::Publish {
                chan,
                message,
                times: 3,
            },
        ]
    });
    prop_oneof![2 => again, 1 => held]
}

/// Nothing expires, and nothing dies because it comes back: at the end of a node it would be a
/// matter of timing what becomes of it.
fn lasting(mut queue: QueueShape, kill: bool) -> QueueShape {
    if kill {
        // Young quorum queues do not outlive a kill (seen on 3.10.8).
        queue.kind = Kind::Classic;
        queue.delivery_limit = None;
    }
    queue.ttl = false;
    queue.auto_delete = false;
    if queue.max_length.is_some() || queue.delivery_limit.is_some() {
        queue.dead_letters = None;
    }
    queue
}

fn without_expiration(step: Step) -> Step {
    match step {
        Step::Publish {
            chan,
            mut message,
            times,
        } => {
            message.expiration = Expiration::None;
            Step::Publish {
                chan,
                message,
                times,
            }
        }
        Step::Cut { chan, mut unheard } => {
            for message in &mut unheard {
                message.expiration = Expiration::None;
            }
            Step::Cut { chan, unheard }
        }
        other => other,
    }
}

/// Programs during which the broker ends and comes back. One channel is left then: in which order
/// several end is open.
pub(super) fn programs_with_restart() -> BoxedStrategy<Program> {
    let parts = (programs(), prop::bool::weighted(0.4), index(), programs());
    let joined = parts.prop_map(|(mut program, kill, last, after)| {
        let queues = program.queues.into_iter();
        program.queues = queues.map(|queue| lasting(queue, kill)).collect();
        let last = [0, 2, 3][last];
        let mut ends = vec![Step::CloseChannel { chan: 1 }];
        let others = [0, 2, 3].into_iter().filter(|&chan| chan != last);
        ends.extend(others.map(|chan| Step::CloseConnection { chan }));
        ends.push(Step::Restart { kill });
        let steps = program.steps.into_iter().chain(ends).chain(after.steps);
        program.steps = steps.map(without_expiration).collect();
        program
    });
    joined.boxed()
}

/// All programs, but for restarts.
pub(super) fn programs() -> BoxedStrategy<Program> {
    let one = prop_oneof![3 => traffic(), 1 => upheaval()].prop_map(|step| vec![step]);
    let steps = vec(prop_oneof![14 => one, 1 => phrase()], 1..=18);
    let steps = steps.prop_map(|steps| steps.concat());
    let confirms = prop::array::uniform::<_, SLOTS>(prop::bool::weighted(0.85));
    let parts = (
        vec(queue(), 1..=3),
        vec(exchange(), 0..=3),
        vec(binding(), 0..=5),
        confirms,
        steps,
    );
    parts
        .prop_map(|(queues, exchanges, bindings, confirms, steps)| Program {
            queues,
            exchanges,
            bindings,
            confirms,
            steps,
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::op::{Counter, OPERATIONS, Op, concrete, preparation};
    use super::super::saw::Clients;
    use super::*;

    fn is_well_formed(queue: &QueueShape) -> bool {
        let quorum = queue.kind == Kind::Quorum;
        let only_classic = queue.exclusive || queue.auto_delete || !queue.durable;
        !(quorum && only_classic)
            && (quorum || queue.delivery_limit.is_none())
            && (queue.overflow.is_none() || queue.max_length.is_some())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_program_is_well_formed(program in programs()) {
            prop_assert!((1..=3).contains(&program.queues.len()));
            prop_assert!(program.exchanges.len() <= 3);
            prop_assert!((1..=18 * 10).contains(&program.steps.len()));
            prop_assert!(program.queues.iter().all(is_well_formed));
        }

        /// Whatever the clients know: each step is either nothing to do or an operation with a
        /// name, on queues and exchanges of the program or on such as it knows to be missing.
        #[test]
        fn every_step_becomes_an_operation(program in programs()) {
            let names = Names::new("p-".to_owned(), &program);
            let mut counter = Counter::default();
            let clients = Clients::default();
            let steps = program.steps.iter();
            let steps = steps.filter_map(|step| concrete(step, &program, &names, &clients, &mut counter));
            let all: Vec<Op> = preparation(&program, &names).into_iter().chain(steps).collect();
            for op in all {
                let name = op.name(|_| Some(Kind::Classic));
                prop_assert!(name.is_some_and(|name| OPERATIONS.contains(&name)), "{op:?}");
            }
        }
    }
}
