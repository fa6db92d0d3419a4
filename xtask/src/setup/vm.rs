//! What `cargo xtask vm` boots: QEMU, Debian's kernels and a static busybox, the last two unpacked in the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;

use super::{Part, debian, made};
use crate::shell;
use crate::vm::kernels::{GuestKernel, KERNELS};

/// The emulator of the guest's processor.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// Where distributions keep the server of the file system that the guest boots from.
const VIRTIOFSD: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];

/// The server of the guest's file system.
pub(crate) fn virtiofsd() -> Option<PathBuf> {
    VIRTIOFSD.iter().map(PathBuf::from).find(|path| path.is_file()).or_else(|| find_program("virtiofsd"))
}

/// The static busybox that is the guest's first user space.
pub(crate) fn busybox(cache: &Cache) -> PathBuf {
    cache.dir().join("vm/busybox/bin/busybox")
}

pub(crate) const VM: Part = Part {
    name: "vm",
    about: "QEMU and the kernels that `cargo xtask vm` boots (on demand)",
    by_default: false,
    make_ready,
};

fn make_ready(cache: &Cache) -> Result<()> {
    if !debian::is_here() {
        shell::say("vm: not made ready: its kernels come from Debian's packages");
        return Ok(());
    }
    install_qemu()?;
    let root = cache.dir().join("vm/busybox");
    made::once(&root, "busybox-static", || debian::unpack(&["busybox-static"], &root))?;
    for kernel in &KERNELS {
        unpack(kernel, cache)?;
    }
    Ok(())
}

fn install_qemu() -> Result<()> {
    // One package of qemu-system-common until Debian 12, its own since.
    if find_program(QEMU).is_none() {
        debian::install(&["qemu-system-x86"])?;
    }
    if virtiofsd().is_none() {
        debian::install(&["virtiofsd"])?;
    }
    if virtiofsd().is_none() {
        bail!("virtiofsd is not where it is looked for: {}", VIRTIOFSD.join(", "));
    }
    Ok(())
}

/// A kernel that is there stays as it is: remove its folder to get a newer one. One that this release of Debian does not
/// have is left out, and `cargo xtask vm` counts it as skipped.
fn unpack(kernel: &GuestKernel, cache: &Cache) -> Result<()> {
    let dir = kernel.dir(cache);
    if let Some(package) = made::recipe(&dir) {
        shell::say(&format!("vm: {package} (already there)"));
        return Ok(());
    }
    debian::need_package_lists()?;
    let search = format!("^linux-image-{}\\.", kernel.version.replace('.', "\\."));
    let found = shell::read(Command::new("apt-cache").args(["search", "--names-only", &search]))?;
    let packages = found.lines().filter_map(|line| line.split_whitespace().next());
    let Some(package) = kernel.newest(packages) else {
        shell::say(&format!("vm: this machine's apt has no kernel {}", kernel.name));
        return Ok(());
    };
    shell::say(&format!("vm: unpacking {package} into {}", dir.display()));
    made::once(&dir, package, || debian::unpack(&[package], &dir))?;
    Ok(())
}
