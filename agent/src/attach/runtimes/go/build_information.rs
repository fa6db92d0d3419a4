//! The build information that Go's linker writes into every executable.

use compact_str::CompactString;

/// The section that holds it.
pub(crate) const SECTION: &str = ".go.buildinfo";

/// The Go release in it: a magic of 14 bytes, the pointer size, flags. With flag 2 (Go 1.18 and later) the release is a string
/// with its length at byte 32 (debug/buildinfo in Go's standard library).
pub(crate) fn release(build_information: &[u8]) -> Option<CompactString> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    let inline = build_information.starts_with(MAGIC) && build_information.get(15)? & 2 != 0;
    let length = usize::from(*build_information.get(32).filter(|length| **length < 0x80)?);
    let release = std::str::from_utf8(build_information.get(33..33 + length)?).ok()?;
    (inline && release.starts_with("go")).then(|| release.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_executable_contains_its_release() {
        let mut information = b"\xff Go buildinf:\x08\x02".to_vec();
        information.resize(32, 0);
        information.extend(b"\x08go1.26.8\x00");
        assert_eq!(release(&information).as_deref(), Some("go1.26.8"));
        // Before Go 1.18 it holds a pointer to the release.
        information[15] = 0;
        assert_eq!(release(&information), None);
        assert_eq!(release(&information[..20]), None);
    }
}
