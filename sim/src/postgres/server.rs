//! A private PostgreSQL, started by whoever runs a world and gone with them.
//!
//! It writes to memory where the machine has a file system for that, listens on a socket in its
//! own folder only, and keeps nothing: durability is what a seeded world decides, not a disk.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use super::backend::Side;
use super::slots::Slots;

/// Folder of the programs `initdb` and `postgres`, where they are not to be looked for.
pub const PROGRAMS_VARIABLE: &str = "REDELIVER_POSTGRES_BIN";

/// The user that the server runs as, where the caller is root: PostgreSQL refuses root.
const NOBODY: u32 = 65_534;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

const PRELOAD: &str = include_str!("preload.c");

/// Carries the server until nobody holds its standard input any more, however they ended.
const KEEPER: &str = r#"
LD_PRELOAD="$2" "$1/postgres" -D data $3 </dev/null >log 2>&1 &
server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server"
cd / && rm -rf "$4"
"#;

/// What worlds want of a server: nothing happens in it on its own, or by a clock.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("unix_socket_directories", "."),
    ("port", "5432"),
    ("fsync", "off"),
    // Without fsync a write to memory. Switched off, each commit wakes a process to do it.
    ("synchronous_commit", "on"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "256MB"),
    ("autovacuum", "off"),
    ("track_counts", "off"),
    ("bgwriter_lru_maxpages", "0"),
    ("checkpoint_timeout", "1d"),
    ("shared_buffers", "64MB"),
    ("max_connections", "500"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    // In its folder, which goes with it, however it ends.
    ("dynamic_shared_memory_type", "mmap"),
    // Few runs of a statement in many sessions: a plan for each would cost more than it saves.
    ("plan_cache_mode", "force_generic_plan"),
    ("update_process_title", "off"),
    ("synchronize_seqscans", "off"),
    ("log_min_messages", "fatal"),
    ("log_min_error_statement", "panic"),
];

/// Why there is no private PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

impl Unavailable {
    /// For this reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn doing(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("no private PostgreSQL: {what}: {error}"))
    }
}

/// A running private server.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    keeper: Child,
    pub(super) slots: Slots,
    databases: AtomicU32,
}

impl Server {
    /// The server of this program; started at the first call, and gone when the program ends.
    ///
    /// # Errors
    /// Where PostgreSQL's programs are missing or do not start.
    pub fn of_this_program() -> Result<Arc<Self>, Unavailable> {
        static SERVER: OnceLock<Result<Arc<Server>, Unavailable>> = OnceLock::new();
        SERVER.get_or_init(Self::start).clone()
    }

    /// Starts one.
    ///
    /// # Errors
    /// As [`Server::of_this_program`].
    pub fn start() -> Result<Arc<Self>, Unavailable> {
        let programs = programs()?;
        let folder = folder().map_err(Unavailable::doing("its folder"))?;
        let slots = Slots::create(&folder.join("slots"))
            .and_then(|slots| own(&folder.join("slots")).map(|()| slots))
            .map_err(Unavailable::doing("its clock"))?;
        let prepared = preload(&folder).and_then(|preload| {
            initialise(&programs, &folder)?;
            Ok(preload)
        });
        let preload = prepared.inspect_err(|_| {
            let _ = fs::remove_dir_all(&folder);
        })?;
        let keeper =
            keep(&programs, &folder, &preload).map_err(Unavailable::doing("starting it"))?;
        let server = Arc::new(Self {
            folder,
            keeper,
            slots,
            databases: AtomicU32::new(0),
        });
        server.wait()?;
        server.check_clock()?;
        Ok(server)
    }

    /// Whether its sessions have the time that they are given: a library is passed over in silence
    /// where it cannot be loaded.
    fn check_clock(self: &Arc<Self>) -> Result<(), Unavailable> {
        const GIVEN: i64 = 1_234_567_890;
        let told = Side::clock(self, GIVEN).map_err(Unavailable::doing("its clock"))?;
        if told == Some(GIVEN.to_string()) {
            return Ok(());
        }
        Err(Unavailable(format!(
            "no private PostgreSQL: it does not take the time of the world. Libraries in {} are \
             not loaded (mounted noexec?); let TMPDIR name another folder",
            self.folder.display()
        )))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("data").join(SOCKET)
    }

    pub(super) fn next_database(&self) -> u32 {
        self.databases.fetch_add(1, Ordering::Relaxed)
    }

    fn wait(&self) -> Result<(), Unavailable> {
        let since = Instant::now();
        while let Err(error) = super::backend::Backend::probe(self) {
            if since.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(Unavailable(format!(
                    "the private PostgreSQL does not answer: {error}; it says: {last}"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends by itself; waiting leaves no process behind.
        let _ = self.keeper.wait();
    }
}

/// The name under which clients look for a socket in a folder.
pub(super) const SOCKET: &str = ".s.PGSQL.5432";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives a path to the user that the server runs as, who removes it in the end.
pub(super) fn own(path: &Path) -> io::Result<()> {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

fn as_server_user(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The folder of the newest PostgreSQL's programs.
fn programs() -> Result<PathBuf, Unavailable> {
    let has_both = |folder: &Path| {
        let there = |name: &str| folder.join(name).is_file();
        there("postgres") && there("initdb")
    };
    if let Some(folder) = std::env::var_os(PROGRAMS_VARIABLE).map(PathBuf::from) {
        if has_both(&folder) {
            return Ok(folder);
        }
        return Err(Unavailable(format!(
            "no private PostgreSQL: {PROGRAMS_VARIABLE} names {}, which has no initdb and postgres. \
             Install them (Debian: apt-get install postgresql), or let it name their folder",
            folder.display()
        )));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut packaged: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/local/lib/postgresql"] {
        let Ok(versions) = fs::read_dir(parent) else {
            continue;
        };
        for version in versions.flatten() {
            let number = version.file_name().to_string_lossy().parse().unwrap_or(0);
            packaged.push((number, version.path().join("bin")));
        }
    }
    packaged.sort();
    found.extend(packaged.into_iter().rev().map(|(_, folder)| folder));
    found
        .into_iter()
        .find(|folder| has_both(folder))
        .ok_or_else(|| {
            Unavailable(format!(
                "no private PostgreSQL: initdb and postgres are neither in PATH nor in \
                 /usr/lib/postgresql/*/bin. Install the distribution's package (Debian: \
                 apt-get install postgresql), or name their folder in {PROGRAMS_VARIABLE}"
            ))
        })
}

/// What a server needs: its log of changes, and a database for each thread.
const ROOM: u64 = 512 << 20;

/// Whether a server fits in there, and libraries can be used from there. In a container memory is
/// often neither: 64 MB, `noexec`.
fn has_room(parent: &Path) -> bool {
    rustix::fs::statvfs(parent).is_ok_and(|there| {
        let free = there.f_bavail.saturating_mul(there.f_frsize);
        let noexec = rustix::fs::StatVfsMountFlags::NOEXEC;
        free >= ROOM && !there.f_flag.contains(noexec)
    })
}

/// A new folder that the server may write to, in memory if there is room for that.
fn folder() -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut last = io::Error::other("there is no folder for temporary files");
    let memory = Some(PathBuf::from("/dev/shm")).filter(|memory| has_room(memory));
    for parent in memory.into_iter().chain([std::env::temp_dir()]) {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("redeliver-{}-{number}", std::process::id()));
        let made = fs::create_dir(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)))
            .and_then(|()| own(&folder));
        match made {
            Ok(()) => return Ok(folder),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Compiles what tames the server's clock. Without that no run could be repeated.
fn preload(folder: &Path) -> Result<PathBuf, Unavailable> {
    let (source, library) = (folder.join("preload.c"), folder.join("preload.so"));
    fs::write(&source, PRELOAD).map_err(Unavailable::doing("its clock"))?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let failed = |why: &dyn fmt::Display| {
        Unavailable(format!(
            "no private PostgreSQL: a C compiler builds what gives it the time of the world, and \
             {} does not: {why}. Install one (Debian: apt-get install gcc libc6-dev), or name it \
             in CC",
            Path::new(&compiler).display()
        ))
    };
    let done = Command::new(&compiler)
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error))?;
    match done.status.success() {
        true => Ok(library),
        false => Err(failed(&String::from_utf8_lossy(&done.stderr).trim())),
    }
}

fn initialise(programs: &Path, folder: &Path) -> Result<(), Unavailable> {
    let mut command = Command::new(programs.join("initdb"));
    command
        .args(["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"])
        .args(["--locale=C", "--no-sync", "--no-instructions"])
        .current_dir(folder)
        .stdin(Stdio::null());
    let Output { status, stderr, .. } = as_server_user(&mut command)
        .output()
        .map_err(Unavailable::doing("initdb"))?;
    if status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&stderr);
    Err(Unavailable(format!(
        "no private PostgreSQL: initdb failed: {}",
        why.trim()
    )))
}

fn keep(programs: &Path, folder: &Path, preload: &Path) -> io::Result<Child> {
    let settings: Vec<String> = SETTINGS
        .iter()
        .map(|(name, value)| format!("{name} = '{value}'\n"))
        .collect();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.join("data").join("postgresql.conf"))?;
    io::Write::write_all(&mut file, settings.concat().as_bytes())?;
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(KEEPER)
        .arg("redeliver-postgres")
        .args([programs.as_os_str()])
        .arg(preload)
        .arg("")
        .arg(folder)
        .env("REDELIVER_SLOTS", folder.join("slots"))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C is for the program, which lets go of the server in good order.
        .process_group(0);
    as_server_user(&mut command).spawn()
}
