//! The user accounts that servers run under. PostgreSQL refuses to run as root, and nginx's workers should not.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

/// A user of this machine, with its primary group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserAccount {
    pub(crate) user: String,
    pub(crate) group: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Runs a command as the user `nobody`, with no supplementary group and no capability.
pub fn as_nobody(command: &mut Command) -> Result<&mut Command> {
    let nobody = UserAccount::first_of(&["nobody"])?;
    Ok(command.uid(nobody.uid).gid(nobody.gid))
}

impl UserAccount {
    /// Returns the first of `names` that exists on this machine.
    pub(crate) fn first_of(names: &[&str]) -> Result<Self> {
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
        names
            .iter()
            .find_map(|name| find(name, &users, &groups))
            .with_context(|| format!("none of these users exists: {}", names.join(", ")))
    }
}

/// Returns whether this process runs as root.
#[must_use]
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and can't fail.
    unsafe { libc::geteuid() == 0 }
}

fn find(name: &str, users: &str, groups: &str) -> Option<UserAccount> {
    // passwd(5): name:password:UID:GID:...; group(5): name:password:GID:...
    let mut user =
        users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?.skip(2);
    let (uid, gid) = (user.next()?.parse().ok()?, user.next()?.parse().ok()?);
    let group = groups.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(gid)).then(|| fields.first().copied())?
    })?;
    Some(UserAccount { user: name.to_owned(), group: group.to_owned(), uid, gid })
}

#[cfg(test)]
mod tests {
    use super::{UserAccount, find};

    #[test]
    fn a_user_is_found_with_its_group_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";
        let groups = "root:x:0:\nnogroup:x:65533:\n";
        let nobody = UserAccount { user: "nobody".into(), group: "nogroup".into(), uid: 65534, gid: 65533 };
        assert_eq!(find("nobody", users, groups), Some(nobody));
        assert_eq!(find("postgres", users, groups), None);
    }
}
