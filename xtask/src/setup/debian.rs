//! Debian packages: finding, unpacking and installing them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use onlooker_tests::{machine::find_program, wait};

use crate::shell;

/// Whether this is Debian or a derivative, with its package tools.
pub(super) fn is_here() -> bool {
    Path::new("/etc/debian_version").exists() && find_program("apt-get").is_some() && find_program("dpkg-deb").is_some()
}

/// Fetches the package lists if there are none. Existing lists are used as they are.
pub(super) fn need_package_lists() -> Result<()> {
    let lists = fs::read_dir("/var/lib/apt/lists").context("cannot read /var/lib/apt/lists")?;
    let there = lists.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    if !there {
        shell::run(Command::new("apt-get").args(["--quiet", "update"]))
            .context("the package lists are missing: run `apt-get update` as root")?;
    }
    Ok(())
}

/// The name of the dependency of `package` that begins with `prefix`.
pub(super) fn dependency_of(package: &str, prefix: &str) -> Result<String> {
    let record = shell::read(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    dependency_in(&record, prefix)
        .with_context(|| format!("Debian's package {package} does not depend on any {prefix}*"))
}

fn dependency_in(record: &str, prefix: &str) -> Option<String> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names = depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
    names.map(|name| name.split(':').next().unwrap_or(name)).find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// Downloads `packages` and unpacks them below `root`. Nothing is installed.
pub(super) fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    let archives = tempfile::tempdir().context("cannot create a temporary folder")?;
    shell::run(
        Command::new("apt-get")
            // apt-get's download account has no access to this folder.
            .args(["--quiet", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(archives.path()),
    )?;
    let files = deb_files(archives.path())?;
    if files.len() != packages.len() {
        bail!("apt-get downloaded {} of {} packages", files.len(), packages.len());
    }
    for file in files {
        shell::run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(root))?;
    }
    Ok(())
}

/// Installs `packages` without starting their services: a test starts its servers itself, on its own ports.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "installing needs root: run `sudo apt-get install --no-install-recommends {}`, then this again",
            packages.join(" ")
        );
    }
    need_package_lists()?;
    // An interrupted install must still remove the policy.
    wait::handle_signals()?;
    let _policy = NoServices::declare()?;
    shell::run(
        Command::new("apt-get")
            .args(["-qq", "--yes", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    if wait::interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Forbids packages to start services (invoke-rc.d(8)) until it is dropped.
struct NoServices {
    /// The policy file. `None` if the machine already has a policy: it stays as it is.
    created: Option<PathBuf>,
}

impl NoServices {
    fn declare() -> Result<Self> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { created: None });
        }
        // 101: "action forbidden by policy".
        fs::write(&path, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {}", path.display()))?;
        let policy = Self { created: Some(path.clone()) };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = &self.created
            && let Err(error) = fs::remove_file(path)
        {
            shell::say(&format!("cannot remove {} ({error}): remove it, or services will not start", path.display()));
        }
    }
}

fn deb_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::dependency_in;

    #[test]
    fn a_versioned_package_is_found_among_the_dependencies() {
        let record = "Package: rustc\nDepends: libc6 (>= 2.34), libllvm22:amd64 (>= 22) | libllvm21, zlib1g\n";
        assert_eq!(dependency_in(record, "libllvm").as_deref(), Some("libllvm22"));
        assert_eq!(dependency_in(record, "libstd-rust-"), None);
    }
}
