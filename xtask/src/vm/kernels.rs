//! The kernels that `cargo xtask vm` boots: one row each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

/// A kernel that Debian packages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuestKernel {
    /// What `--kernel` and docs/kernels.md call it.
    pub(crate) name: &'static str,
    /// The version that the package's name begins with after `linux-image-`.
    pub(crate) version: &'static str,
    /// What the package's name ends with.
    pub(crate) flavour: &'static str,
}

/// Debian's generic and cloud kernels have the same source and differ in configuration.
pub(crate) const KERNELS: [GuestKernel; 4] = [
    GuestKernel { name: "6.1-cloud", version: "6.1", flavour: "cloud-amd64" },
    GuestKernel { name: "6.1", version: "6.1", flavour: "amd64" },
    GuestKernel { name: "6.12-cloud", version: "6.12", flavour: "cloud-amd64" },
    GuestKernel { name: "6.12", version: "6.12", flavour: "amd64" },
];

impl GuestKernel {
    /// The folder in the cache that its package is unpacked into.
    pub(crate) fn dir(&self, cache: &Cache) -> PathBuf {
        cache.dir().join("vm").join(self.name)
    }

    /// The newest of these packages that is this kernel, signed and with debugging left out.
    pub(crate) fn newest<'a>(&self, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        packages.filter(|package| self.is_in(package)).max_by_key(|package| numbers(package))
    }

    /// Whether `package` is `linux-image-VERSION.PATCH[+DISTRIBUTION | -ABI]-FLAVOUR`.
    fn is_in(&self, package: &str) -> bool {
        let patch = package
            .strip_prefix("linux-image-")
            .and_then(|rest| rest.strip_prefix(self.version)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(self.flavour)?.strip_suffix('-'));
        // Another flavour ends with letters before the suffix: `cloud-amd64`, `rt-amd64`.
        patch.is_some_and(|patch| patch.ends_with(|last: char| last.is_ascii_digit()))
    }
}

/// The numbers in a package's name, which order its versions.
fn numbers(package: &str) -> Vec<u32> {
    package.split(|digit: char| !digit.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The files of an unpacked kernel.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The image that QEMU starts.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
    /// Its own name: what `uname -r` prints.
    pub(super) release: String,
}

impl Unpacked {
    /// Finds the files below the folder that the package was unpacked into.
    pub(super) fn find(dir: &Path) -> Result<Self> {
        let modules = only_entry(&dir.join("lib/modules"))?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { image: dir.join("boot").join(format!("vmlinuz-{release}")), modules, release })
    }
}

fn only_entry(dir: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let entry = entries.next().with_context(|| format!("{} is empty", dir.display()))?;
    Ok(entry.with_context(|| format!("cannot read {}", dir.display()))?.path())
}

#[cfg(test)]
mod tests {
    use super::KERNELS;

    #[test]
    fn the_newest_package_of_the_flavour_is_chosen() {
        let packages = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.1.0-57-rt-amd64",
            "linux-image-6.1.0-58-amd64-unsigned",
            "linux-image-6.12.100+deb12-amd64",
            "linux-image-6.12.95+deb12-amd64",
            "linux-image-6.12-amd64",
        ];
        let newest = KERNELS.map(|kernel| kernel.newest(packages.into_iter()));
        let expected = [
            Some("linux-image-6.1.0-57-cloud-amd64"),
            Some("linux-image-6.1.0-57-amd64"),
            None,
            Some("linux-image-6.12.100+deb12-amd64"),
        ];
        assert_eq!(newest, expected);
    }
}
