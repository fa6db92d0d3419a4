//! Finds libraries in the cache of the dynamic linker, `/etc/ld.so.cache`.
//!
//! The format is that of glibc's `sysdeps/generic/dl-cache.h`: a header, entries, and texts that the entries name by their
//! offsets. Caches of old releases have another format in front of this one.

use std::path::Path;

use memchr::memmem;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// More than any host has.
const ENTRIES_READ: usize = 1 << 16;

/// The paths of a library, which may be of several architectures. What does not parse is left out.
pub fn paths<'cache>(cache: &'cache [u8], library: &'cache str) -> impl Iterator<Item = &'cache Path> {
    let cache = memmem::find(cache, MAGIC).and_then(|at| cache.get(at..)).unwrap_or_default();
    let count = word(cache, MAGIC.len()).map_or(0, |count| (count as usize).min(ENTRIES_READ));
    let entries = cache.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count);
    entries
        .filter_map(move |entry| {
            // Flags, name, path, version of the system, capabilities of the processor.
            let (name, path) = (text(cache, word(entry, 4)?)?, word(entry, 8)?);
            (name == library.as_bytes()).then(|| text(cache, path)).flatten()
        })
        .filter_map(|path| std::str::from_utf8(path).ok())
        .map(Path::new)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// The text at the offset, up to its NUL.
fn text(cache: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = cache.get(offset as usize..)?;
    rest.get(..memchr::memchr(0, rest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut cache = MAGIC.to_vec();
        cache.extend(u32::try_from(libraries.len()).unwrap().to_ne_bytes());
        cache.resize(HEADER_BYTES, 0);
        let mut texts = Vec::new();
        let texts_at = HEADER_BYTES + ENTRY_BYTES * libraries.len();
        for (name, path) in libraries {
            let name_at = u32::try_from(texts_at + texts.len()).unwrap();
            texts.extend([name.as_bytes(), b"\0"].concat());
            let path_at = u32::try_from(texts_at + texts.len()).unwrap();
            texts.extend([path.as_bytes(), b"\0"].concat());
            for word in [0x303_u32, name_at, path_at, 0, 0, 0] {
                cache.extend(word.to_ne_bytes());
            }
        }
        cache.extend(texts);
        cache
    }

    const LIBRARIES: [(&str, &str); 3] = [
        ("libz.so.1", "/lib/libz.so.1"),
        ("libssl.so.3", "/usr/lib/libssl.so.3"),
        ("libssl.so.3", "/lib32/libssl.so.3"),
    ];

    fn found(cache: &[u8], library: &str) -> Vec<String> {
        paths(cache, library).map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_library_has_the_paths_of_its_entries() {
        let cache = cache(&LIBRARIES);
        assert_eq!(found(&cache, "libssl.so.3"), ["/usr/lib/libssl.so.3", "/lib32/libssl.so.3"]);
        assert_eq!(found(&cache, "libssl.so"), [""; 0]);
        let behind_the_old_format = [b"ld.so-1.7.0\0\0\0\0\0", &cache[..]].concat();
        assert_eq!(found(&behind_the_old_format, "libz.so.1"), ["/lib/libz.so.1"]);
    }

    #[test]
    fn a_damaged_cache_has_no_library_or_the_same() {
        let whole = cache(&LIBRARIES);
        for length in 0..whole.len() {
            assert!(found(&whole[..length], "libssl.so.3").len() <= 2);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _ = found(&damaged, "libssl.so.3");
        }
    }
}
