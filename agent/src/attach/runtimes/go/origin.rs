//! Where the offsets of an executable come from: its debug information, otherwise the table by release.

use std::fs::File;
use std::sync::{LazyLock, Mutex, PoisonError};

use onlooker_elf::Elf;

use super::dwarf;
use super::members::Members;
use super::offsets::RELEASES;
use crate::file_version::FileVersion;
use crate::recent::Recent;

/// Where offsets came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    DebugInformation,
    Table,
}

/// What was found in executables. Reading the debug information of a large one takes a second.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
type Known = Recent<FileVersion, Option<(Members, Origin)>, EXECUTABLES_KEPT>;
const EXECUTABLES_KEPT: usize = 1024;

/// Finds the offsets for an executable that was built by `release`, such as `go1.26.8`.
pub(super) fn find(file: &File, release: &str) -> Option<(Members, Origin)> {
    let version = FileVersion::of(file).ok()?;
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known().get(&version) {
        return *found;
    }
    let described = dwarf::members(&Elf::open(file)?).filter(|members| members.goid().is_some());
    let found = described
        .map(|members| (members, Origin::DebugInformation))
        .or_else(|| of_release(release).map(|members| (members, Origin::Table)));
    known().insert(version, found);
    found
}

/// The row of a release. Minor releases of one series have the same structs.
fn of_release(release: &str) -> Option<Members> {
    let row = RELEASES.iter().find(|(series, _)| {
        let minor = release.strip_prefix(series);
        minor.is_some_and(|minor| minor.is_empty() || !minor.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    Some(Members(row.1))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::minor_release("go1.26.8", Some(152))]
    #[case::first_release("go1.26", Some(152))]
    #[case::candidate("go1.24rc1", Some(160))]
    #[case::with_experiments("go1.24.3 X:nodwarf5", Some(160))]
    #[case::longer_number("go1.260", None)]
    #[case::development("devel go1.28-abcdef", None)]
    #[case::unknown("go1.17.13", None)]
    fn a_release_has_the_offsets_of_its_series(#[case] release: &str, #[case] goid: Option<u64>) {
        assert_eq!(of_release(release).and_then(Members::goid), goid);
    }

    #[test]
    fn parents_of_goroutines_are_known_since_go_1_21() {
        for (series, row) in RELEASES {
            let since: u32 = series.strip_prefix("go1.").unwrap().parse().unwrap();
            let members = Members(*row);
            assert_eq!(members.parent_goid().is_some(), since >= 21, "{series}");
            assert!(members.goid().is_some() && members.http_client().is_some(), "{series}");
        }
    }
}
