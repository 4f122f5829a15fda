//! Keys and rows as the model stores them.

use std::any::{Any, type_name};
use std::cmp::Ordering;
use std::sync::Arc;

/// The key of a row, or of an index entry.
///
/// Cloning never copies text: a key sits in its table, in indexes and in the list of locks of a
/// transaction. Keys of one table should be of one kind; the order between kinds is arbitrary but
/// fixed. Text sorts by bytes, as under PostgreSQL's `C` collation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Below every key. Only for the bounds of a range; no row may carry it.
    Lowest,
    /// An integer: an id, a number of nanoseconds.
    Int(i64),
    /// Sixteen bytes, compared as PostgreSQL compares `uuid`.
    Uuid([u8; 16]),
    /// Text, compared by bytes.
    Text(Arc<str>),
    /// A composite key, compared column by column.
    Pair(Arc<(Key, Key)>),
    /// Above every key. Only for the bounds of a range; no row may carry it.
    Highest,
}

impl Key {
    /// A text key. Allocates; clone the result rather than calling this again.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// A key of two columns. Nest pairs for more.
    pub fn pair(first: impl Into<Self>, second: impl Into<Self>) -> Self {
        Self::Pair(Arc::new((first.into(), second.into())))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Lowest => 0,
            Self::Int(_) => 1,
            Self::Uuid(_) => 2,
            Self::Text(_) => 3,
            Self::Pair(_) => 4,
            Self::Highest => 5,
        }
    }

    /// Whether a row may carry this key: it holds no bound.
    pub(super) fn is_storable(&self) -> bool {
        match self {
            Self::Lowest | Self::Highest => false,
            Self::Int(_) | Self::Uuid(_) | Self::Text(_) => true,
            Self::Pair(pair) => pair.0.is_storable() && pair.1.is_storable(),
        }
    }
}

impl Ord for Key {
    /// Keys of one kind come first: they are what a look-up compares.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            (Self::Uuid(one), Self::Uuid(two)) => one.cmp(two),
            (Self::Pair(one), Self::Pair(two)) => one.cmp(two),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<i64> for Key {
    fn from(id: i64) -> Self {
        Self::Int(id)
    }
}

impl From<[u8; 16]> for Key {
    fn from(id: [u8; 16]) -> Self {
        Self::Uuid(id)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Key {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

/// A version of a row: immutable, shared, and opaque to the model.
///
/// An update stores a new version. A reader keeps the version it has read, whatever happens to the
/// table later, as a client keeps the bytes it was sent.
pub type Row = Arc<dyn Any + Send + Sync>;

/// Wraps a value as a row.
pub fn row<T: Any + Send + Sync>(value: T) -> Row {
    Arc::new(value)
}

/// The value inside a row.
///
/// # Panics
///
/// When the row holds another type: a table has one row type, so this is a mistake in the caller.
#[track_caller]
pub fn get<T: Any>(row: &Row) -> &T {
    match (**row).downcast_ref() {
        Some(value) => value,
        None => panic!("the row is not a {}", type_name::<T>()),
    }
}
