//! The members of structs of Go's runtime and standard library that are read.

/// Struct and member, in the order of the columns of the table of releases.
pub(super) const MEMBERS: [(&str, &str); COLUMNS] = [
    ("runtime.g", "goid"),
    ("runtime.g", "parentGoid"),
    ("net/http.persistConn", "conn"),
    ("net.netFD", "pfd"),
    ("internal/poll.FD", "Sysfd"),
    ("net.netFD", "family"),
    ("net.netFD", "sotype"),
    ("runtime.p", "goidcache"),
];

pub(super) const COLUMNS: usize = 8;

/// Offsets of [`MEMBERS`], as far as they exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Members(pub(super) [Option<u16>; COLUMNS]);

impl Members {
    pub(super) const NONE: Self = Self([None; COLUMNS]);

    pub(super) fn goid(self) -> Option<u64> {
        self.0[0].map(u64::from)
    }

    /// Go 1.21 and later.
    pub(super) fn parent_goid(self) -> Option<u64> {
        self.0[1].map(u64::from)
    }

    /// Where a processor has its next id for a goroutine. The end of its ids follows.
    pub(super) fn next_goid(self) -> Option<u16> {
        self.0[7]
    }

    /// The offsets that lead from a `persistConn` to its file descriptor: `conn`, then those of `Sysfd`, `family` and `sotype` in
    /// the `netFD`. None in a program without net/http.
    pub(super) fn http_client(self) -> Option<[u16; 4]> {
        let [_, _, conn, pfd, sysfd, family, sotype, _] = self.0;
        Some([conn?, pfd?.checked_add(sysfd?)?, family?, sotype?])
    }
}
