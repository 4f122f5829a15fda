//! `docs/fidelity.md`: what the models promise and how each promise was verified. Made of the cases
//! and of the profiles themselves, so that it cannot say what is not so.

mod limits;
mod versions;

use std::fmt::Write;
use std::path::Path;

use crate::table::{Case, Suite};

const PAGE: &str = "docs/fidelity.md";
/// With this variable set to 1 the page is written instead of compared.
const UPDATE: &str = "REDELIVER_UPDATE_DOCS";

const HEAD: &str = "\
# What the models are held to

<!-- Made by `cargo test -p redeliver-conform --test conformance fidelity` from the cases; REDELIVER_UPDATE_DOCS=1 writes it. -->

Every line under *RabbitMQ* and *PostgreSQL* is a test, `crates/conform/tests/conformance`, written once and run on
the model and on a real server, RabbitMQ 3.10.8 and PostgreSQL 15 as Debian 12 has them; the build
fails where one of the two does anything else. `scripts/test` runs all of them; servers of other
versions can be named by `AMQP_URL` and `DATABASE_URL`.

*classic* and *quorum*: the types of queue that the case was run on; none where it is about exchanges,
channels or connections alone.

Beside the cases, random programs run on both, step by step, and the model has to explain what the
clients of the real server saw: `cargo run --release -p redeliver-conform`. What may differ legally is listed at the end.
";

/// Both columns of one case.
fn columns(case: &Case) -> [&'static str; 2] {
    ["classic", "quorum"].map(|kind| match case.kinds.contains(&kind) {
        true => "yes",
        false => "–",
    })
}

fn sentence(case: &Case) -> String {
    let text = case.name.replace('_', " ");
    let (first, rest) = text.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

fn count(suites: &[&Suite]) -> usize {
    suites.iter().map(|suite| suite.cases.len()).sum()
}

/// Tables of behaviours of queues.
fn by_kind(page: &mut String, suites: &[&Suite]) -> std::fmt::Result {
    for Suite { title, cases } in suites {
        writeln!(page, "\n### {title}\n")?;
        writeln!(
            page,
            "| behaviour | classic | quorum | profile | verified |"
        )?;
        writeln!(page, "|---|---|---|---|---|")?;
        for case in *cases {
            let [classic, quorum] = columns(case);
            let text = sentence(case);
            let (profile, verified) = ("rabbitmq-3.10", "model and 3.10.8");
            writeln!(
                page,
                "| {text} | {classic} | {quorum} | {profile} | {verified} |"
            )?;
        }
    }
    Ok(())
}

/// Tables of other behaviours.
fn plain(page: &mut String, suites: &[&Suite], verified: &str) -> std::fmt::Result {
    for Suite { title, cases } in suites {
        writeln!(page, "\n### {title}\n\n| behaviour | verified |\n|---|---|")?;
        for case in *cases {
            writeln!(page, "| {} | {verified} |", sentence(case))?;
        }
    }
    Ok(())
}

fn page() -> Result<String, std::fmt::Error> {
    let mut page = HEAD.to_owned();
    let (amqp, operator) = (crate::amqp::SUITES, crate::operator::SUITES);
    let n = count(amqp) + count(operator);
    writeln!(page, "\n## RabbitMQ: {n} behaviours of the AMQP port")?;
    by_kind(&mut page, amqp)?;
    by_kind(&mut page, operator)?;

    writeln!(page, "\n## RabbitMQ: what differs between versions")?;
    versions::table(&mut page)?;

    let sql = crate::sql::SUITES;
    let n = count(sql);
    writeln!(page, "\n## PostgreSQL: {n} behaviours at READ COMMITTED")?;
    plain(&mut page, sql, "model and PostgreSQL 15")?;

    let store = crate::store::SUITES;
    let n = count(store);
    writeln!(
        page,
        "\n## The store: {n} behaviours of outbox, inbox and rows"
    )?;
    plain(&mut page, store, "simulated store and PostgreSQL 15")?;

    let transport = crate::transport::SUITES;
    let n = count(transport);
    writeln!(
        page,
        "\n## The transport: {n} behaviours of queues, retries and dead letters"
    )?;
    plain(
        &mut page,
        transport,
        "model and RabbitMQ 3.10.8, both queue types",
    )?;

    limits::sections(&mut page)?;
    Ok(page)
}

#[test]
fn the_page_says_what_the_cases_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(PAGE);
    let page = page().expect("a string takes all");
    if std::env::var(UPDATE).as_deref() == Ok("1") {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let first = page
        .lines()
        .zip(there.lines())
        .find(|(new, old)| new != old);
    assert!(
        page == there,
        "{PAGE} is out of date, first at {first:?}: write it with {UPDATE}=1 cargo test -p redeliver-conform --test conformance fidelity"
    );
}
