//! OpenSSL 3: its functions report errors with the name of the source file, the line, and their own name (`__func__`).
//!
//! `ERR_set_debug(const char *file, int line, const char *func)`. `SSL_read_ex` and `SSL_write_ex` report no errors of their own.
//! They call `ssl_read_internal` and `ssl_write_internal`, or contain a copy of it. The internal function takes the same
//! arguments and has the same result on success, so it is found in their place.

use super::{Code, Function, User};

const SSL: &str = "ssl/ssl_lib.c";
const BIO: &str = "crypto/bio/bio_lib.c";

/// A function: the file that it is in, the name that it reports, and the name that it must not report also.
struct Row {
    function: &'static str,
    file: &'static str,
    reports: &'static str,
    but_not: &'static str,
}

const fn row(function: &'static str, file: &'static str, reports: &'static str, but_not: &'static str) -> Row {
    Row { function, file, reports, but_not }
}

const ROWS: [Row; 6] = [
    row("SSL_read", SSL, "SSL_read", ""),
    row("SSL_read_ex", SSL, "ssl_read_internal", "SSL_read"),
    row("SSL_write", SSL, "SSL_write", ""),
    row("SSL_write_ex", SSL, "ssl_write_internal", "SSL_write"),
    row("SSL_new", SSL, "SSL_new", ""),
    row("BIO_write", BIO, "bio_write_intern", ""),
];

pub(super) fn find(code: &Code<'_>) -> Vec<Function> {
    let mut found = Vec::new();
    for file in [SSL, BIO] {
        let files = code.strings(file);
        let users = code.users(&files);
        for row in ROWS.iter().filter(|row| row.file == file && !users.is_empty()) {
            let (reported, other) = (code.whole_strings(row.reports), code.whole_strings(row.but_not));
            let reports = |user: &&User, names: &[u64]| {
                let mut calls = user.calls().into_iter();
                calls.any(|[file, _, name, ..]| {
                    file.is_some_and(|file| files.contains(&file)) && name.is_some_and(|name| names.contains(&name))
                })
            };
            let matching = users.iter().filter(|user| reports(user, &reported) && !reports(user, &other));
            found.extend(matching.map(|user| user.named(row.function)));
        }
    }
    found
}
