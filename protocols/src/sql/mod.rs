//! Normalises SQL: removes every literal, and summarises what a statement does to which tables.
//!
//! One pass of a [lexer] feeds the [text] and the [summary]. There is no syntax tree. A parser with a grammar rejects
//! truncated statements and unknown dialects, and these must be normalised too.

mod keyword;
mod lexer;
mod summary;
mod text;
mod value;

use std::borrow::Cow;
use std::sync::Arc;

use compact_str::CompactString;

use lexer::{Kind, Lexer};
use summary::Summary;
use text::Text;
use value::Values;

/// How a database reads quotes, comments and dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    /// PostgreSQL with `standard_conforming_strings` off: a backslash escapes in every string.
    PostgresEscaping,
    /// PostgreSQL whose `standard_conforming_strings` is unknown. Everything after a quote behind a backslash is hidden,
    /// because it may be in a string.
    PostgresUnknown,
    MySql,
}

/// Whether a statement is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// The end is missing. The last word may be incomplete, and the last literal may have no end.
    Truncated,
}

/// One statement or several, without their literals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Normalized {
    /// The normalised statement:
    /// - `?` replaces every literal, and the values of `SET` and `PASSWORD`, whatever their quotes;
    /// - comments are removed, and white space is one blank;
    /// - repeated elements of `IN (...)` and `ARRAY[...]` and repeated rows of `VALUES` are dropped;
    /// - `...` ends a statement that is truncated, or whose end is hidden because it can be read in two ways.
    pub text: Arc<str>,
    /// The operation in the statement's own spelling: `SELECT`, `insert`, `CREATE TABLE`. For `WITH`, the operation
    /// behind the common table expressions. Empty for several statements with different operations.
    pub operation: CompactString,
    /// The first table in the statement's own spelling. Empty if there is none, or there are several statements.
    pub collection: CompactString,
    /// All operations and their targets in order (OTel semconv, "Generating a summary of the query"), in the statement's
    /// own spelling. At most [`MAX_SUMMARY`] bytes, cut between words.
    pub summary: CompactString,
}

impl Normalized {
    /// Whether the statement was complete.
    pub(crate) fn is_whole(&self) -> bool {
        !self.text.ends_with(text::CUT)
    }

    /// Bytes of memory that it takes, approximately.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.operation.len() + self.collection.len() + self.summary.len()
    }
}

/// Bytes of the longest summary. This is OpenTelemetry's limit.
pub const MAX_SUMMARY: usize = 255;

/// Normalises one statement or several. Bytes that are not UTF-8 become U+FFFD.
///
/// ```
/// use onlooker_protocols::sql::{Dialect, Extent, normalize};
///
/// let statement = normalize(b"SELECT * FROM users WHERE id IN (1, 2, 3)", Extent::Whole, Dialect::Postgres);
/// assert_eq!(&*statement.text, "SELECT * FROM users WHERE id IN (?)");
/// assert_eq!(statement.summary, "SELECT users");
/// ```
#[must_use]
pub fn normalize(sql: &[u8], extent: Extent, dialect: Dialect) -> Normalized {
    Normalizer::default().normalize(sql, extent, dialect)
}

/// Normalises statements as [`normalize`] does, and reuses its buffer for the next.
#[derive(Debug, Default)]
pub struct Normalizer {
    written: String,
}

impl Normalizer {
    /// See [`normalize`].
    #[must_use]
    pub fn normalize(&mut self, sql: &[u8], extent: Extent, dialect: Dialect) -> Normalized {
        // The strict conversion checks many bytes at a time, the lossy one each byte.
        let sql = std::str::from_utf8(sql).map_or_else(|_| String::from_utf8_lossy(sql), Cow::Borrowed);
        let mut lexer = Lexer::new(&sql, dialect);
        let mut text = Text::new(&mut self.written);
        let mut summary = Summary::default();
        let mut values = Values::default();
        while let Some(mut token) = lexer.next() {
            // An incomplete word is dropped. It is no word for the summary, and may be the prefix of a string.
            let cut = extent == Extent::Truncated && lexer.is_at_end();
            if cut && matches!(token.kind, Kind::Word(_) | Kind::Quoted | Kind::Placeholder) {
                summary.cut();
                if token.spaced {
                    text.space();
                }
                break;
            }
            if values.take(token.kind) {
                token.kind = Kind::Literal;
            }
            text.push(token);
            summary.push(token);
        }
        let extent = if lexer.is_ambiguous() { Extent::Truncated } else { extent };
        let (operation, collection, summary) = summary.finish();
        Normalized { text: text.finish(extent), operation, collection, summary }
    }
}
