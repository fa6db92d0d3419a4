//! Makes SQL safe to show and cheap to group by: no literal is left, and a summary names what it does to what.
//!
//! One pass of a [lexer] feeds the [text] and the [summary]; nothing is parsed into a tree. A grammar (sqlparser and
//! the like) was weighed and left: it refuses text that was cut off, or is of a dialect it doesn't know, and that text
//! must come out redacted all the same.

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
    MySql,
}

/// Whether all of the statement is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// It was cut off somewhere: the last word may be half a word, and the last literal have no end.
    Truncated,
}

/// A statement without its literals, or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Normalized {
    /// Every literal replaced by `?`, as is what `SET` and `PASSWORD` give in any quotes or none, comments removed, white space folded, repeated elements of `IN (...)` and rows
    /// of `VALUES` dropped. Ends in `...` where the statement was truncated.
    pub text: Arc<str>,
    /// What the statement does, as it was written: `SELECT`, `insert`, `CREATE TABLE`. Of `WITH`, what follows the
    /// common table expressions. Empty for several statements that don't all do the same.
    pub operation: CompactString,
    /// The first table named, as it was written; empty if there is none or several statements.
    pub collection: CompactString,
    /// All operations and their targets in order (OpenTelemetry semantic conventions, "Generating a summary of the
    /// query"), as they were written, at most [`MAX_SUMMARY`] bytes, cut between words.
    pub summary: CompactString,
}

impl Normalized {
    /// Whether all of the statement is there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.text.ends_with(text::CUT)
    }

    /// How much memory it takes, about.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.operation.len() + self.collection.len() + self.summary.len()
    }
}

/// Longest summary, in bytes: OpenTelemetry's limit.
pub const MAX_SUMMARY: usize = 255;

/// Normalises one statement or several; bytes that are not UTF-8 come out as U+FFFD.
#[must_use]
pub fn normalize(sql: &[u8], extent: Extent, dialect: Dialect) -> Normalized {
    Normalizer::default().normalize(sql, extent, dialect)
}

/// Normalises statements as [`normalize`] does, one after the other, and uses its memory again.
#[derive(Debug, Default)]
pub struct Normalizer {
    written: String,
}

impl Normalizer {
    /// See [`normalize`].
    #[must_use]
    pub fn normalize(&mut self, sql: &[u8], extent: Extent, dialect: Dialect) -> Normalized {
        // The lossy conversion looks at every byte for itself, the other at many at a time.
        let sql = std::str::from_utf8(sql).map_or_else(|_| String::from_utf8_lossy(sql), Cow::Borrowed);
        let mut lexer = Lexer::new(&sql, dialect);
        let mut text = Text::new(&mut self.written);
        let mut summary = Summary::default();
        let mut values = Values::default();
        while let Some(mut token) = lexer.next() {
            // Half a word must not pass for a word: not in the summary, and not as the prefix that a string would have had.
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
        let (operation, collection, summary) = summary.finish();
        Normalized { text: text.finish(extent), operation, collection, summary }
    }
}
