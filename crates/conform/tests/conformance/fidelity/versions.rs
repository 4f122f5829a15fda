//! What differs between versions of RabbitMQ, read from the profiles.

use std::fmt::Write;

use redeliver_sim::broker::{ConsumerTimeout, Profile, Rules};

const NOTES_4_0: &str =
    "[4.0 release notes](https://github.com/rabbitmq/rabbitmq-server/releases/tag/v4.0.1)";
const QUORUM: &str = "[quorum queues](https://www.rabbitmq.com/docs/quorum-queues)";
const CONSUMERS: &str =
    "[consumers](https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout)";
const DLX: &str = "[dead lettering](https://www.rabbitmq.com/docs/dlx)";
const NOTES_3_12: &str =
    "[3.12 release notes](https://github.com/rabbitmq/rabbitmq-server/releases/tag/v3.12.0)";
const SOURCE_4_3: &str =
    "[source of 4.3.5](https://github.com/rabbitmq/rabbitmq-server/tree/v4.3.5), `rabbit_fifo`";

const PROFILES: [(&str, Profile); 4] = [
    ("rabbitmq-3.10", Profile::Rabbit3_10),
    ("rabbitmq-3.13", Profile::Rabbit3_13),
    ("rabbitmq-4.0", Profile::Rabbit4_0),
    ("rabbitmq-4.3", Profile::Rabbit4_3),
];

struct Difference {
    behaviour: &'static str,
    value: fn(&Rules) -> String,
    source: &'static str,
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        behaviour: "Delivery limit of a quorum queue that names none",
        value: |rules| {
            rules
                .default_delivery_limit
                .map_or("none".to_owned(), |limit| limit.to_string())
        },
        source: NOTES_4_0,
    },
    Difference {
        behaviour: "A first `basic.get` from a quorum queue shows `x-delivery-count: 0`",
        value: |rules| yes(rules.get_shows_zero_count),
        source: NOTES_3_12,
    },
    Difference {
        behaviour: "`basic.nack` with requeue raises the delivery count (`basic.reject` and losses always do)",
        value: |rules| yes(rules.nack_raises_count),
        source: SOURCE_4_3,
    },
    Difference {
        behaviour: "What came back shows `x-acquired-count`",
        value: |rules| yes(rules.acquired_count),
        source: SOURCE_4_3,
    },
    Difference {
        behaviour: "An `x-death` header that a client publishes is counted on",
        value: |rules| yes(rules.reads_published_x_death),
        source: NOTES_4_0,
    },
    Difference {
        behaviour: "Dead letters carry `x-last-death-*`",
        value: |rules| yes(rules.last_death_headers),
        source: DLX,
    },
    Difference {
        behaviour: "A queue may carry `x-consumer-timeout`",
        value: |rules| yes(rules.queue_consumer_timeout),
        source: CONSUMERS,
    },
    Difference {
        behaviour: "What a consumer timeout does",
        value: |rules| {
            match rules.consumer_timeout {
                ConsumerTimeout::ClosesChannel => "closes the channel",
                ConsumerTimeout::CancelsConsumer => "cancels the consumer, quorum queues only",
            }
            .to_owned()
        },
        source: SOURCE_4_3,
    },
    Difference {
        behaviour: "Largest message",
        value: |rules| format!("{} MiB", rules.max_message_size >> 20),
        source: NOTES_4_0,
    },
    Difference {
        behaviour: "A quorum queue without a limit of its own puts what is given back",
        value: |rules| {
            match rules.default_delivery_limit {
                Some(_) => "first",
                None => "last",
            }
            .to_owned()
        },
        source: QUORUM,
    },
];

pub(super) fn table(page: &mut String) -> std::fmt::Result {
    let named = "\nA scenario says `broker = \"rabbitmq-4.0\"`. The column of rabbitmq-3.10 was seen on 3.10.8; \
        **the others are documented, not verified**: no such server was at hand. What this table does not \
        name, a profile does as 3.10.8 did, and that too is not verified.\n";
    writeln!(page, "{named}")?;
    let names = PROFILES.map(|(name, _)| name).join(" | ");
    writeln!(page, "| behaviour | {names} | source of the others |")?;
    writeln!(page, "|---|---|---|---|---|---|")?;
    for Difference {
        behaviour,
        value,
        source,
    } in DIFFERENCES
    {
        let values = PROFILES.map(|(_, profile)| value(&profile.rules()));
        writeln!(page, "| {behaviour} | {} | {source} |", values.join(" | "))?;
    }
    Ok(())
}
