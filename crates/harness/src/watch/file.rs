//! The history of a run as a file, written as it happens by all of its processes.
//!
//! Each record is one `write` to a file that is open for appending, so records of several
//! processes never mix, and what was written survives the death of its writer. A process that is
//! killed in the middle of a `write` may leave a piece of a record: each record carries its length
//! and a check, and a reader goes on behind a piece that does not hold.
//!
//! A file opens with a line of text. Records are in `postcard`'s form, which says nothing of
//! itself: a file is read by the version that has written it, or by one with the same
//! [`FORMAT`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::history::{Entry, History, Name};
use crate::load::offer::Pattern;

use super::reading::{LedgerEntry, Letter, Queued};
use redeliver_core::audit::{AuditEntry, WorkflowHead};
use redeliver_core::inbox::InboxRow;
use redeliver_core::outbox::OutboxRow;
use redeliver_core::ports::env::Timestamp;
use redeliver_core::ports::store::KeptMessage;

/// Raised with every change to [`Record`] or to what it holds.
pub const FORMAT: u32 = 3;

/// How a file begins.
fn opening() -> String {
    format!("redeliver history {FORMAT}\n")
}

/// One record of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Record {
    /// What was to be done: the first record.
    Start(Box<Start>),
    /// What a process did or saw.
    Entry(Entry),
    /// Everything had started: the first request was due then.
    Begin {
        /// In nanoseconds since the start of the run.
        at: u64,
    },
    /// A fault was given to the run.
    Fault(Given),
    /// A fault was seen by somebody else.
    Witness(Witness),
    /// All faults are over.
    Heal {
        /// In nanoseconds since the start of the run.
        at: u64,
    },
    /// An outside service acted.
    Ledger(LedgerEntry),
    /// A look at the broker, the database and the processes while the run went on.
    Gauge(Gauge),
    /// From the final reading.
    Row(Row),
    /// How the run ended: the last record.
    End(End),
}

impl Record {
    /// A record from the bytes of a file.
    pub(crate) fn read(written: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(written).map_err(io::Error::other)
    }
}

/// What a run was to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The version of the program.
    pub version: String,
    /// The commit of the code under test; empty where unknown.
    pub commit: String,
    /// When it began, by the wall clock.
    pub began: Timestamp,
    /// Under which name it stood on the servers.
    pub name: String,
    /// The seed of requests and faults.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// Its workload.
    pub workload: String,
    /// The scenario as the text of a file.
    pub text: String,
    /// Whether work queues were classic ones.
    pub classic_queues: bool,
    /// Requests in 1,000 seconds; 0 where it is no load run.
    pub rate: u64,
    /// How they were spread over time.
    pub pattern: Pattern,
    /// For how long they were sent, in nanoseconds.
    pub lasts: u64,
    /// How many requests that is.
    pub requests: u64,
    /// Cores of the machine.
    pub cores: u32,
    /// How many processes shared the sending.
    pub producers: u32,
    /// Servers and their versions.
    pub servers: Vec<(String, String)>,
}

/// A fault that was given to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// In nanoseconds since the start of the run.
    pub at: u64,
    /// Its name in scenario files.
    #[serde(deserialize_with = "super::history::names::one")]
    pub kind: Name,
    /// What it was given to: a process, a server, a service.
    pub target: String,
    /// The seam at which it struck; empty for one that happens at a time.
    pub place: String,
    /// Which message it struck; empty where none is meant.
    pub subject: Arc<str>,
    /// For how long, in nanoseconds.
    pub lasts: u64,
}

/// Somebody other than the one who gave it has seen a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// In nanoseconds since the start of the run.
    pub at: u64,
    /// The fault's name in scenario files.
    #[serde(deserialize_with = "super::history::names::one")]
    pub kind: Name,
    /// What it was given to.
    pub target: String,
    /// What was seen of it: an exit status, a line of a server's log.
    pub saw: String,
}

/// A look from outside while a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// In nanoseconds since the start of the run.
    pub at: u64,
    /// Rows of the outbox that were not published.
    pub outbox: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Works of the inbox that were begun and have not ended.
    pub inbox: u64,
    /// Messages that are ready, by queue, without the run's namespace.
    pub queues: Vec<(Arc<str>, u64)>,
    /// Milliseconds of CPU that each part has used since the start, by part.
    pub cpu: Vec<(Arc<str>, u64)>,
    /// Resident memory of the harness's own process, in kilobytes.
    pub memory_kb: u64,
    /// Its open files.
    pub files: u64,
}

impl Gauge {
    /// Messages that are ready in a queue.
    pub fn ready(&self, queue: &str) -> u64 {
        let known = self.queues.iter().find(|(name, _)| **name == *queue);
        known.map_or(0, |(_, ready)| *ready)
    }
}

/// A row of the final reading, see [`FinalReading`](super::reading::FinalReading).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in the reading")]
pub enum Row {
    Outbox(Box<OutboxRow>),
    Inbox(Box<InboxRow>),
    Kept(KeptMessage),
    Audit(Box<AuditEntry>),
    Workflow(WorkflowHead),
    /// Table, key, version, and the document as JSON.
    Document(Arc<str>, Arc<str>, i64, String),
    Now(Timestamp),
    Queued(Queued),
    Letter(Box<Letter>),
    Answer(super::reading::Answer),
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether it came to rest within its bound.
    pub settled: bool,
    /// Whether it was ended from outside before it came to rest.
    pub stopped: bool,
    /// Whether tables and queues were read.
    pub read: bool,
    /// How long it took, in nanoseconds.
    pub wall: u64,
    /// Faults of the scenario that were not given.
    pub not_given: Vec<String>,
    /// Kinds of faults that were to strike.
    pub planned: Vec<String>,
}

/// Appends records to a file.
#[derive(Clone, Debug)]
pub struct Appender(Arc<Open>);

#[derive(Debug)]
struct Open {
    file: File,
    failure: OnceLock<String>,
}

/// Two bytes with which each record begins.
const MARK: [u8; 2] = [0xB5, 0x5E];
/// Mark, length and check.
const HEAD: usize = 2 + 4 + 4;
/// A longer one is none: payloads are bounded by far less.
const LONGEST: usize = 64 << 20;

fn check(body: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(body);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

impl Appender {
    /// Begins a new file.
    ///
    /// # Errors
    /// It is there already, or cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        file.write_all(opening().as_bytes())?;
        Ok(Self::of(file))
    }

    /// Goes on with a file that another process has begun.
    ///
    /// # Errors
    /// It is not there, or cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(OpenOptions::new().append(true).open(path)?))
    }

    fn of(file: File) -> Self {
        let failure = OnceLock::new();
        Self(Arc::new(Open { file, failure }))
    }

    /// Keeps the history of a run that is over and was no load run: what it was to do, and its entries. Such
    /// a file has no rate.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn keep(path: &Path, start: Start, history: &History) -> io::Result<()> {
        let file = Self::create(path)?;
        let start = Start { rate: 0, ..start };
        file.append(&Record::Start(Box::new(start)));
        for entry in &history.entries {
            file.append(&Record::Entry(entry.clone()));
        }
        match file.failure() {
            None => Ok(()),
            Some(why) => Err(io::Error::other(why.to_owned())),
        }
    }

    /// Adds a record. After an error nothing more is written; see [`Appender::failure`].
    pub fn append(&self, record: &Record) {
        if self.0.failure.get().is_some() {
            return;
        }
        if let Err(error) = self.write(record) {
            self.0.failure.get_or_init(|| error.to_string());
        }
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let whole = postcard::to_extend(record, vec![0; HEAD]).map_err(io::Error::other)?;
        let mut whole = whole;
        let body = &whole[HEAD..];
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let check = check(body);
        whole[..2].copy_from_slice(&MARK);
        whole[2..6].copy_from_slice(&length.to_le_bytes());
        whole[6..HEAD].copy_from_slice(&check);
        (&self.0.file).write_all(&whole)
    }

    /// Why a record could not be written, if so: the history is not whole then.
    pub fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says why.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin as a history does.
    #[error("this is no history file: it does not begin with {:?}", opening().trim_end())]
    Foreign,
    /// It is of another format.
    #[error(
        "it is of format {0}, this program reads format {FORMAT}: use the version that has written it"
    )]
    Format(String),
}

/// Reads the records of a file, in the order in which they were written.
#[derive(Debug)]
pub struct Records<R = File> {
    file: R,
    buffer: Vec<u8>,
    /// Of the buffer, already read.
    used: usize,
    /// Where in the buffer the record begins that was read last, without its head.
    last: usize,
    /// Bytes that belong to no whole record.
    torn: u64,
    opened: bool,
    /// Whether it is still written.
    grows: bool,
}

impl Records<File> {
    /// Of a file that nobody writes any more.
    ///
    /// # Errors
    /// It cannot be opened. Whether it is a history shows with the first record.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Self::new(File::open(path)?, false))
    }

    /// Of a file that is still written: at its end there may be more later.
    ///
    /// # Errors
    /// As [`Records::open`].
    pub fn follow(path: &Path) -> Result<Self, FileError> {
        Ok(Self::new(File::open(path)?, true))
    }
}

impl<R: Read> Records<R> {
    /// Of whatever can be read; `grows` where there may be more after its end.
    pub fn new(file: R, grows: bool) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            used: 0,
            last: 0,
            torn: 0,
            opened: false,
            grows,
        }
    }

    /// The record that was read last, as it is written: see [`Record::read`].
    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[self.last..self.used]
    }

    /// Bytes that belonged to no whole record: pieces that killed processes have left behind.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Bytes at the end that are no whole record yet.
    pub fn rest(&self) -> u64 {
        (self.buffer.len() - self.used) as u64
    }

    /// The next record; none at the end of what was written so far. Asked again later, it goes on
    /// with what has come meanwhile.
    ///
    /// # Errors
    /// It cannot be read, or is no history.
    pub fn next_record(&mut self) -> Result<Option<Record>, FileError> {
        loop {
            if let Some(record) = self.parse(false)? {
                return Ok(Some(record));
            }
            if self.fill()? {
                continue;
            }
            if self.grows {
                return Ok(None);
            }
            // Behind a piece at the end there may be whole records that its length covers.
            let last = self.parse(true)?;
            if last.is_none() {
                self.torn += self.rest();
                self.used = self.buffer.len();
            }
            return Ok(last);
        }
    }

    /// Reads more into the buffer; false at the end.
    fn fill(&mut self) -> Result<bool, FileError> {
        const MORE: usize = 64 << 10;
        self.buffer.drain(..self.used);
        self.used = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + MORE, 0);
        let read = self.file.read(&mut self.buffer[kept..]);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(&mut self, ended: bool) -> Result<Option<Record>, FileError> {
        if !self.opened && !self.read_opening()? {
            return Ok(None);
        }
        loop {
            let rest = &self.buffer[self.used..];
            let Some(head) = rest.first_chunk::<HEAD>() else {
                return Ok(None);
            };
            let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            if head[..2] == MARK && length <= LONGEST {
                match rest.get(HEAD..HEAD + length) {
                    Some(body) if check(body) == head[6..] => {
                        if let Ok(record) = postcard::from_bytes(body) {
                            self.last = self.used + HEAD;
                            self.used += HEAD + length;
                            return Ok(Some(record));
                        }
                    }
                    // A piece of a record waits here for the bytes of others, which fail its check.
                    None if !ended => return Ok(None),
                    _ => {}
                }
            }
            self.used += 1;
            self.torn += 1;
        }
    }

    fn read_opening(&mut self) -> Result<bool, FileError> {
        let opening = opening();
        let all = &self.buffer[self.used..];
        let Some(end) = all.iter().take(64).position(|byte| *byte == b'\n') else {
            return match all.len() >= 64 {
                true => Err(FileError::Foreign),
                false => Ok(false),
            };
        };
        let line = String::from_utf8_lossy(&all[..=end]);
        if line != opening {
            let format = line.strip_prefix("redeliver history ");
            return Err(format.map_or(FileError::Foreign, |format| {
                FileError::Format(format.trim_end().to_owned())
            }));
        }
        self.used += end + 1;
        self.opened = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::watch::history::What;

    fn entry(at: u64) -> Record {
        let what = What::Request {
            key: Arc::from(format!("order-{at}")),
            due: at / 2,
        };
        let process = Arc::from("client-1");
        Record::Entry(Entry { at, process, what })
    }

    fn written(records: &[Record]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.history");
        let file = Appender::create(&path).expect("a new file");
        records.iter().for_each(|record| file.append(record));
        assert_eq!(file.failure(), None);
        (folder, path)
    }

    fn times(bytes: &[u8]) -> (Vec<u64>, u64) {
        let mut records = Records::new(bytes, false);
        let mut found = Vec::new();
        while let Some(record) = records.next_record().expect("a history") {
            match record {
                Record::Entry(entry) => found.push(entry.at),
                other => panic!("{other:?} was not written"),
            }
        }
        (found, records.torn())
    }

    #[test]
    fn a_file_that_is_no_history_is_refused() {
        let read = |text: &str| Records::new(text.as_bytes(), false).next_record();
        assert!(matches!(read("{}\n"), Err(FileError::Foreign)));
        assert!(matches!(read("redeliver history 0\n"), Err(FileError::Format(it)) if it == "0"));
        assert!(matches!(read(&"x".repeat(100)), Err(FileError::Foreign)));
    }

    #[test]
    fn a_reader_goes_on_with_what_comes_later() {
        let (_folder, path) = written(&[entry(1)]);
        let mut reader = Records::follow(&path).expect("a file");
        assert!(matches!(reader.next_record(), Ok(Some(Record::Entry(it))) if it.at == 1));
        assert!(matches!(reader.next_record(), Ok(None)));
        Appender::open(&path).expect("a file").append(&entry(2));
        assert!(matches!(reader.next_record(), Ok(Some(Record::Entry(it))) if it.at == 2));
    }

    proptest! {
        /// Writers are killed: wherever pieces of records stand, all whole ones are found.
        #[test]
        fn pieces_of_records_hide_no_whole_ones(
            cuts in proptest::collection::vec(proptest::option::of(1usize..40), 1..20)
        ) {
            let opening = opening();
            let mut bytes = opening.clone().into_bytes();
            let mut whole = Vec::new();
            for (at, cut) in cuts.iter().enumerate() {
                let at = at as u64;
                let (_folder, path) = written(&[entry(at)]);
                let mut record = std::fs::read(path).expect("a file");
                record.drain(..opening.len());
                match cut {
                    Some(cut) => bytes.extend(&record[..(*cut).min(record.len() - 1)]),
                    None => {
                        bytes.extend(&record);
                        whole.push(at);
                    }
                }
            }
            let (found, torn) = times(&bytes);
            prop_assert_eq!(found, whole);
            prop_assert_eq!(torn > 0, cuts.iter().any(Option::is_some));
        }
    }
}
