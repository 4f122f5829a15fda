//! A real PostgreSQL under the seeded world: sessions of simulated processes, their locks, clocks,
//! crashes and commits, by seed.

use std::io::Write;

use redeliver_sim::postgres::Server;

mod own_sql;
mod pipeline;
mod world;

/// Whether this machine has a PostgreSQL to be started. Without one the calling test is left out,
/// loudly; with `REDELIVER_REQUIRE_SERVICES=1` it fails.
fn has_postgres() -> bool {
    let Err(why) = Server::of_this_program() else {
        return true;
    };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let required = std::env::var("REDELIVER_REQUIRE_SERVICES").as_deref() == Ok("1");
    assert!(!required, "REDELIVER_REQUIRE_SERVICES=1, and {why}");
    let line = format!("LEFT OUT, NOT TESTED: {test} ({why})\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr can be written");
    false
}
