//! Databases: <https://opentelemetry.io/docs/specs/semconv/db/database-spans/>.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use compact_str::CompactString;

/// A command of a database client with its response.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Database {
    /// The value of `db.system.name`, e.g. `postgresql`.
    pub system: &'static str,
    pub namespace: Namespace,
    /// The operation's name, e.g. `SELECT`, `CONFIG SET`: as it was written where case matters, at most 64 bytes where
    /// it comes from the wire. Empty if it is unknown, or there are several.
    pub operation: CompactString,
    /// The first table, collection or bucket. Empty if none is named, or several statements name some.
    pub collection: CompactString,
    /// A summary of low cardinality, e.g. `SELECT users` or `SELECT users INSERT log`: at most 255 bytes.
    pub summary: CompactString,
    /// The query with every literal and argument replaced by `?`. Ends in `...` if not all of it was captured.
    pub text: QueryText,
    /// The status code that the server returned with an error or warning, e.g. `42P01`, `WRONGTYPE`. Empty if it returned
    /// none, or the code was not captured.
    pub status: CompactString,
    /// The server reported an error. A warning is no error.
    pub failed: bool,
    /// The server did not execute the command, because a command before it in the same pipeline had failed.
    pub skipped: bool,
    pub rows: Option<Rows>,
    /// The number of operations that the request holds, where it is a batch.
    pub batch_size: Option<u32>,
    /// The request includes the round trip that prepared its statement.
    pub prepared: bool,
}

/// The database within the server (`db.namespace`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// Empty if it is unknown.
    Name(CompactString),
    /// A number says nothing to a reader, and is left out of span names.
    Number(u32),
}

/// The number of rows that a command concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The server returned them.
    Returned(u64),
    /// The server changed or copied them, or several statements returned and changed them together.
    Processed(u64),
}

/// The text of a query, shared by all executions of a prepared statement or held by one.
#[derive(Clone, PartialEq, Eq)]
pub enum QueryText {
    Own(CompactString),
    Shared(Arc<str>),
}

impl Default for Namespace {
    fn default() -> Self {
        Self::Name(CompactString::default())
    }
}

impl Rows {
    /// The number, whatever was done with the rows.
    #[must_use]
    pub fn count(self) -> u64 {
        match self {
            Self::Returned(count) | Self::Processed(count) => count,
        }
    }
}

impl Default for QueryText {
    fn default() -> Self {
        Self::Own(CompactString::default())
    }
}

impl Deref for QueryText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for QueryText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}

impl From<&str> for QueryText {
    fn from(text: &str) -> Self {
        Self::Own(text.into())
    }
}

impl From<CompactString> for QueryText {
    fn from(text: CompactString) -> Self {
        Self::Own(text)
    }
}

impl From<Arc<str>> for QueryText {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}
