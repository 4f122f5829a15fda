//! Where there is no Linux: a server that cannot be had.
//!
//! Its clock is tamed by preloading a library, and its processes are watched through `/proc`. The
//! models, and real servers, are there on every system.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use super::About;
use crate::process::ProcessId;
use crate::world::World;

/// See there.
pub const PROGRAMS_VARIABLE: &str = "REDELIVER_POSTGRES_BIN";

type Rows = Vec<Vec<Option<String>>>;

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
}

/// None.
#[derive(Debug)]
pub struct Server(Infallible);

impl Server {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn of_this_program() -> Result<Arc<Self>, Unavailable> {
        Self::start()
    }

    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn start() -> Result<Arc<Self>, Unavailable> {
        Err(Unavailable::new(
            "no private PostgreSQL: in the seeded world it is only to be had on Linux. In a \
             container, or with `database = \"model\"`, this runs; so does `redeliver run` on real \
             servers",
        ))
    }
}

/// None.
#[derive(Debug)]
pub struct Database(Infallible);

impl Database {
    /// There is no server.
    ///
    /// # Errors
    /// Never called.
    pub fn empty(server: &Arc<Server>) -> Result<Self, Unavailable> {
        match server.0 {}
    }

    /// There is no server.
    ///
    /// # Errors
    /// Never called.
    pub fn copy(server: &Arc<Server>, _of: &str) -> Result<Self, Unavailable> {
        match server.0 {}
    }

    /// Never called.
    pub fn name(&self) -> &str {
        match self.0 {}
    }

    /// Never called.
    pub fn server(&self) -> &Arc<Server> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn close(self) -> Result<String, Unavailable> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn refresh(&mut self) -> Result<(), Unavailable> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn rows(&mut self, _sql: &str) -> io::Result<Rows> {
        match self.0 {}
    }
}

/// None.
#[derive(Debug)]
pub(crate) struct Tap(Infallible);

impl Tap {
    pub(crate) fn new(database: Database, _epoch: i64) -> Self {
        match database.0 {}
    }

    pub(crate) fn end(self) -> Database {
        match self.0 {}
    }

    pub(crate) fn gate(&mut self, _process: ProcessId) -> io::Result<PathBuf> {
        match self.0 {}
    }

    pub(crate) fn open_transactions(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn ask(&mut self, _sql: &str) -> io::Result<Rows> {
        match self.0 {}
    }

    pub(crate) fn look(
        &mut self,
        _w: &mut World,
        _polled: Option<&(ProcessId, About)>,
    ) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn cut_all(&mut self, _w: &mut World) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn cut_dead(&mut self, _w: &mut World) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn take_handed(&mut self) -> bool {
        match self.0 {}
    }
}
