//! BoringSSL: its functions report errors by a reason's number, the name of the source file, and the line.
//!
//! `ERR_put_error(int library, int unused, int reason, const char *file, unsigned line)`. In `ssl/ssl_lib.cc`, `SSL_write` is the
//! only function that reports the reasons of [`WRITE`]. `SSL_read` and `SSL_peek` are above it, and report [`QUIC`] at the same
//! line, because `SSL_read` contains a copy of `SSL_peek`. Only `SSL_read` writes to the connection: it consumes what it read.

use super::{Code, Function, User};
use crate::code;

const FILE: &str = "ssl/ssl_lib.cc";
/// `ERR_LIB_SSL`
const SSL: u64 = 16;
/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`: the connection is QUIC's.
const QUIC: u64 = 66;
/// And `SSL_R_UNINITIALIZED`, `SSL_R_BAD_LENGTH`.
const WRITE: [u64; 3] = [QUIC, 226, 111];
/// `SSL_R_NULL_SSL_CTX`
const NEW: u64 = 185;
/// `SSL_peek` ends at most so many lines above `SSL_write`. It is 25 lines in the releases that were read.
const LINES: u64 = 100;

/// An error that a function reports.
struct Report {
    reason: u64,
    line: u64,
}

pub(super) fn find(code: &Code<'_>) -> Vec<Function> {
    let files = code.strings(FILE);
    let users = code.users(&files);
    let reports: Vec<_> = users.iter().map(|user| (user, reports(user, &files))).collect();
    let reporting = |reasons: &[u64]| {
        let has = |reports: &[Report], reason| reports.iter().any(|report| report.reason == reason);
        only(reports.iter().filter(|(_, reports)| reasons.iter().all(|reason| has(reports, *reason))))
    };
    let Some((write, written)) = reporting(&WRITE) else { return Vec::new() };
    let Some(line) = written.iter().map(|report| report.line).min() else { return Vec::new() };
    // The nearest line above `SSL_write` where a function only reports `QUIC`.
    let quic = |reports: &[Report]| match reports {
        [report] if report.reason == QUIC && report.line < line => Some(report.line),
        _ => None,
    };
    let above = reports.iter().filter_map(|(_, reports)| quic(reports)).max();
    let Some(above) = above.filter(|above| line - above <= LINES) else { return Vec::new() };
    let reads = reports.iter().filter(|(_, reports)| quic(reports) == Some(above));
    let consumes = |user: &User| code::writes_memory(&user.code, user.addresses.start);
    let Some((read, _)) = only(reads.filter(|(user, _)| consumes(user))) else { return Vec::new() };
    let mut found = vec![read.named("SSL_read"), write.named("SSL_write")];
    found.extend(reporting(&[NEW]).map(|(new, _)| new.named("SSL_new")));
    found
}

/// The errors that a function reports in one of the `files`.
fn reports(user: &User, files: &[u64]) -> Vec<Report> {
    let report = |arguments: &code::Arguments| match *arguments {
        [library, _, Some(reason), Some(file), Some(line), _]
            if files.contains(&file) && library.is_none_or(|library| library == SSL) =>
        {
            Some(Report { reason, line })
        }
        _ => None,
    };
    user.calls().iter().filter_map(report).collect()
}

/// The only one. None if there are several.
fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    found.next().filter(|_| found.next().is_none())
}
