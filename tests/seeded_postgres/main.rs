//! A real PostgreSQL under the seeded world: sessions of simulated processes, their locks, clocks,
//! crashes and commits, by seed.

use std::io::Write;

use redeliver_sim::postgres::Server;

mod existing_outbox;
mod fresh;
mod own_sql;
mod pipeline;
mod sessions;
#[path = "../common/shop.rs"]
mod shop;
mod time;
mod world;

/// Nothing is left behind, though a world was cut off in the middle and its program killed.
#[test]
fn a_killed_program_leaves_nothing_behind() {
    if !has_postgres() {
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut child = std::process::Command::new(program)
        .args([
            "--exact",
            "world::sessions_wait_for_locks_and_deadlocks_are_found",
        ])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let folders = [std::env::temp_dir(), "/dev/shm".into()];
    let name = format!("redeliver-{}-", child.id());
    let left = || {
        let files = folders.iter().filter_map(|folder| folder.read_dir().ok());
        let mut files = files.flatten().flatten();
        files.any(|file| file.file_name().to_string_lossy().starts_with(&name))
    };
    let began = std::time::Instant::now();
    let until = |what: &str, mut done: Box<dyn FnMut() -> bool + '_>| {
        while !done() {
            assert!(began.elapsed().as_secs() < 60, "in vain: {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    // Its first world has a client: a folder in a folder.
    let sockets = || {
        let all = folders.iter().filter_map(|folder| folder.read_dir().ok());
        let mut own = all
            .flatten()
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().starts_with(&name));
        own.any(|file| file.path().join("s1").join("1").is_dir())
    };
    until("a world with a client", Box::new(sockets));
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    until("its folder goes", Box::new(|| !left()));
}

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
