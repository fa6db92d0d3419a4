//! The version of the running kernel, where that decides.

use std::fs;

/// Kernels on which it was tested that sockets may stay enrolled after their first request: docs/propagation.md.
const TESTED: [(u32, u32); 2] = [(6, 12), (6, 18)];

/// Whether sockets may stay enrolled on this kernel.
pub(super) fn sockets_may_stay() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).is_some_and(|version| TESTED.contains(&version))
}

/// Major and minor number.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|byte: char| !byte.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::debian("6.12.117+deb13-cloud-amd64\n", Some((6, 12)))]
    #[case::new_line("7.0-rc1", Some((7, 0)))]
    #[case::nothing("", None)]
    #[case::one_number("6", None)]
    fn versions_are_read(#[case] release: &str, #[case] expected: Option<(u32, u32)>) {
        assert_eq!(version(release), expected);
    }
}
