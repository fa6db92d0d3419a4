//! The user that a command runs as: `onlooker exec --user NAME`.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{self, Gid};

use super::error::ExecError;

/// A user of the system's databases, which may be files, LDAP or others (nsswitch.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: libc::uid_t,
    gid: libc::gid_t,
    /// All groups, as initgroups(3) sets them.
    groups: Vec<libc::gid_t>,
    home: PathBuf,
    shell: PathBuf,
}

impl User {
    /// # Errors
    /// If there is no such user, or if this process may not become another user.
    pub fn named(name: &str) -> Result<Self, ExecError> {
        Self::find(name, unistd::geteuid().is_root())
    }

    pub(super) fn find(name: &str, as_root: bool) -> Result<Self, ExecError> {
        let failed = |why: String| ExecError::User { name: name.to_owned(), why };
        if !as_root {
            return Err(failed("only root may run a command as another user".to_owned()));
        }
        let found = unistd::User::from_name(name).map_err(|error| failed(error.desc().to_owned()))?;
        let found = found.ok_or_else(|| failed("there is no such user".to_owned()))?;
        let c_name = CString::new(name).map_err(|error| failed(error.to_string()))?;
        let groups = unistd::getgrouplist(&c_name, found.gid).map_err(|error| failed(error.desc().to_owned()))?;
        Ok(Self {
            name: found.name,
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: found.dir,
            shell: found.shell,
        })
    }

    /// The variables that login(1) sets. All others stay as they are.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 4] {
        let name = PathBuf::from(&self.name);
        [("HOME", self.home.clone()), ("USER", name.clone()), ("LOGNAME", name), ("SHELL", self.shell.clone())]
    }

    /// Makes the calling process run as this user. Async-signal-safe: it only makes system calls.
    pub(super) fn become_it(&self) -> std::io::Result<()> {
        let check = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        // The user comes last: after that, groups cannot be changed any more.
        // SAFETY: the list of groups is valid for its length. The other calls take numbers.
        unsafe {
            check(libc::setgroups(self.groups.len(), self.groups.as_ptr()))?;
            check(libc::setgid(self.gid))?;
            check(libc::setuid(self.uid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_groups_and_folders_of_the_databases() {
        let root = User::find("root", true).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        let home = root.home.clone();
        assert!(root.environment().contains(&("HOME", home)));
        assert!(root.environment().contains(&("LOGNAME", "root".into())));
    }

    #[test]
    fn an_unknown_user_and_missing_privileges_are_clear_errors() {
        let unknown = User::find("onlooker-no-such-user", true).unwrap_err();
        assert_eq!(unknown.to_string(), "cannot run the command as `onlooker-no-such-user`: there is no such user");
        let refused = User::find("root", false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot run the command as `root`: only root may run a command as another user"
        );
        assert_eq!((unknown.exit_code(), refused.exit_code()), (125, 125));
    }
}
