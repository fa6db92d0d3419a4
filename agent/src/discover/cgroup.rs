//! Where the cgroup v2 hierarchy is mounted, and the names of cgroups.
//!
//! A cgroup has two names: its folder under the mount (`/sys/fs/cgroup/system.slice/shop.service`), and its path in the
//! hierarchy, which /proc/PID/cgroup shows (`/system.slice/shop.service`). This module uses paths in the hierarchy.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::process::{Process, Unreadable};

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup v2 hierarchy is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup`")]
    NotMounted,
    #[error("no cgroup `{given}`: there is no folder {folder}", folder = folder.display(), given = given.display())]
    Unknown { given: PathBuf, folder: PathBuf },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The mounted cgroup v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// The part of the hierarchy that is mounted. It is `/` except in some containers.
    root: PathBuf,
}

impl Hierarchy {
    /// Finds it among the mounts of the agent.
    pub fn find() -> Result<Self, CgroupError> {
        Self::from_mountinfo(&Process::myself()?.mountinfo()?).ok_or(CgroupError::NotMounted)
    }

    /// proc_pid_mountinfo(5): `id parent major:minor root mount options [tags] - type source options`.
    fn from_mountinfo(mountinfo: &str) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            (filesystem.split(' ').next()? == "cgroup2").then(|| Self { mount: unescape(point), root: unescape(root) })
        });
        // Of several mounts, the one of the largest part.
        mounts.min_by_key(|hierarchy| hierarchy.root.components().count())
    }

    /// The path in the hierarchy of a cgroup given as a folder under the mount, or as such a path.
    ///
    /// # Errors
    /// When there is no such cgroup.
    pub fn resolve(&self, given: &Path) -> Result<PathBuf, CgroupError> {
        let folder = match given.strip_prefix(&self.mount) {
            Ok(relative) => self.mount.join(relative),
            Err(_) => self.folder(&Path::new("/").join(given)),
        };
        // The kernel shows paths without links and dots.
        match folder.canonicalize() {
            Ok(found) if found.is_dir() => match found.strip_prefix(&self.mount) {
                Ok(relative) => Ok(self.root.join(relative)),
                Err(_) => Err(CgroupError::Unknown { given: given.to_owned(), folder }),
            },
            _ => Err(CgroupError::Unknown { given: given.to_owned(), folder }),
        }
    }

    /// The folder of the cgroup with this path in the hierarchy.
    #[must_use]
    pub fn folder(&self, cgroup: &Path) -> PathBuf {
        let below = cgroup.strip_prefix(&self.root).or_else(|_| cgroup.strip_prefix("/")).unwrap_or(cgroup);
        self.mount.join(below)
    }
}

/// The cgroup v2 path in the text of a /proc/PID/cgroup.
#[must_use]
pub fn path_in(cgroups: &str) -> Option<PathBuf> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Decodes a field of mountinfo, which has space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                Some(((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), tail))
            }
            _ => None,
        };
        let (byte, tail) = escaped.unwrap_or((*first, tail));
        path.push(byte);
        rest = tail;
    }
    PathBuf::from(OsString::from_vec(path))
}

/// Whether `path` is `cgroup` or one below it.
#[must_use]
pub fn contains(cgroup: &Path, path: &Path) -> bool {
    // A process outside the agent's cgroup namespace has a path like `/../elsewhere`, which is below no selected cgroup.
    !path.as_os_str().as_bytes().starts_with(b"/..") && path.starts_with(cgroup)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::unified(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        Some(("/sys/fs/cgroup", "/"))
    )]
    #[case::hybrid(
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n",
        Some(("/sys/fs/cgroup/unified", "/"))
    )]
    #[case::whole_before_part(
        "40 31 0:38 /kubepods /run/cilium/cgroup rw - cgroup2 none rw\n41 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n",
        Some(("/sys/fs/cgroup", "/"))
    )]
    #[case::part_and_escapes(
        "40 31 0:38 /kube\\040pods /run/a\\134b rw - cgroup2 none rw\n",
        Some(("/run/a\\b", "/kube pods"))
    )]
    #[case::version_one("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", None)]
    #[case::nonsense("- cgroup2\n\n - \n", None)]
    fn the_hierarchy_is_found_in_mountinfo(#[case] mountinfo: &str, #[case] found: Option<(&str, &str)>) {
        let found = found.map(|(mount, root)| Hierarchy { mount: mount.into(), root: root.into() });
        assert_eq!(Hierarchy::from_mountinfo(mountinfo), found);
    }

    #[test]
    fn a_cgroup_is_found_by_its_folder_or_its_path() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path().canonicalize().unwrap();
        std::fs::create_dir_all(mount.join("system.slice/shop.service")).unwrap();
        let hierarchy = Hierarchy { mount: mount.clone(), root: "/".into() };
        let shop = Path::new("/system.slice/shop.service");
        assert_eq!(hierarchy.resolve(&mount.join("system.slice/shop.service/")).unwrap(), shop);
        assert_eq!(hierarchy.resolve(shop).unwrap(), shop);
        assert_eq!(hierarchy.resolve(Path::new("system.slice/shop.service")).unwrap(), shop);
        assert_eq!(hierarchy.resolve(Path::new("/")).unwrap(), Path::new("/"));
        let error = hierarchy.resolve(Path::new("/system.slice/other")).unwrap_err().to_string();
        assert!(error.starts_with("no cgroup `/system.slice/other`"), "{error}");
        assert!(hierarchy.resolve(Path::new("/../../..")).is_err());
        let part = Hierarchy { mount: mount.clone(), root: "/pod".into() };
        assert_eq!(part.resolve(Path::new("/pod/system.slice")).unwrap(), Path::new("/pod/system.slice"));
    }

    #[rstest]
    #[case::itself("/a/b", "/a/b", true)]
    #[case::below("/a", "/a/b/c", true)]
    #[case::all("/", "/a", true)]
    #[case::sibling_with_the_same_beginning("/a/b", "/a/bc", false)]
    #[case::outside_of_the_namespace("/", "/../a", false)]
    fn a_cgroup_contains_its_descendants(#[case] cgroup: &str, #[case] path: &str, #[case] included: bool) {
        assert_eq!(contains(Path::new(cgroup), Path::new(path)), included);
    }
}
