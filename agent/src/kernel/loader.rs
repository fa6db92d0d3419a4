//! Makes aya's loader without the kernel's types.
//!
//! `EbpfLoader::new` reads and parses all types of the kernel, also if `btf(None)` discards them afterwards. That takes longer
//! than loading the programs, and the object has no relocations that need them. So the loader is made on a thread that
//! does not see the file with the types: it stops sharing its root directory with the process, and then changes it.

use std::path::Path;
use std::thread;

use aya::EbpfLoader;

/// A folder that has no file with the relative path of the kernel's types.
const ELSEWHERE: &str = "/sys";

/// A loader with aya's default options, and without types. It has them if this process may not change its root directory.
pub(super) fn without_types() -> EbpfLoader<'static> {
    let made = thread::Builder::new().name("loader".to_owned()).spawn(|| {
        // Otherwise making the loader takes longer.
        let _ = hide_types();
        EbpfLoader::new()
    });
    let mut loader = made.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    loader.btf(None);
    loader
}

/// Hides the file from the calling thread, and from no other.
fn hide_types() -> std::io::Result<()> {
    // SAFETY: affects this thread alone, which from now on has a root directory of its own.
    if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    rustix::process::chroot(Path::new(ELSEWHERE)).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use super::*;
    use crate::kernel::types::VMLINUX_BTF;

    #[test]
    fn the_types_are_hidden_from_one_thread_only() {
        let is_there = || Path::new(VMLINUX_BTF).exists();
        let before = is_there();
        let hidden = thread::spawn(move || hide_types().map(|()| !is_there()));
        match hidden.join().unwrap() {
            Ok(hidden) => assert!(hidden),
            Err(error) => onlooker_tests::record_skip(&format!("cannot change the root directory: {error}")),
        }
        assert_eq!(is_there(), before);
    }
}
