//! The PostgreSQL frontend/backend protocol, version 3.

use compact_str::CompactString;

/// What a span needs of one PostgreSQL command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// The statement with every literal replaced by `?`; empty where it was prepared before Onlooker came.
    pub text: String,
    /// `SELECT`, `INSERT`, ...; empty if it is not known. For connection start-up and COPY data: what happened.
    pub operation: CompactString,
    /// The first table named; empty if there is none or several statements.
    pub collection: CompactString,
    /// `SELECT users` or, for several, `SELECT users INSERT log`: low cardinality, at most 255 bytes.
    pub summary: CompactString,
    pub database: CompactString,
    /// SQLSTATE of the error, e.g. `42P01`.
    pub error_code: CompactString,
    pub rows: Option<u64>,
}
