//! Any statement: the text and the summary keep their bounds. Any bytes in a literal: none of them is left.
//!
//! The first byte chooses the dialect and the extent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::sql::{Dialect, Extent, MAX_SUMMARY, Normalizer, normalize};

fuzz_target!(|input: &[u8]| {
    let Some((flags, sql)) = input.split_first() else { return };
    let dialect = match flags & 3 {
        0 => Dialect::Postgres,
        1 => Dialect::PostgresEscaping,
        2 => Dialect::MySql,
        _ => Dialect::PostgresUnknown,
    };
    let extent = if flags & 4 == 0 { Extent::Whole } else { Extent::Truncated };

    let normalized = normalize(sql, extent, dialect);
    assert!(normalized.summary.len() <= MAX_SUMMARY);
    // A byte that is not UTF-8 becomes three. A token becomes no longer.
    assert!(normalized.text.len() <= 3 * sql.len() + "...".len());
    assert!(extent == Extent::Whole || normalized.text.ends_with("..."));

    let mut statement = b"SELECT '".to_vec();
    for &byte in sql {
        let escapes = byte == b'\'' || (byte == b'\\' && dialect != Dialect::Postgres);
        statement.extend(std::iter::repeat_n(byte, if escapes { 2 } else { 1 }));
    }
    statement.extend(b"' FROM t");
    let mut normalizer = Normalizer::default();
    let _ = normalizer.normalize(sql, extent, dialect);
    let literal = normalizer.normalize(&statement, Extent::Whole, dialect);
    assert_eq!((&*literal.text, &*literal.summary), ("SELECT ? FROM t", "SELECT t"));
});
