//! Finds the file of a command, by the rules of execvp(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ExecError;

/// The file that execvp(3) would execute. A name without a slash is looked up in PATH.
pub(super) fn find(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, ExecError> {
    if program.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match check_executable(&path) {
            Ok(()) => Ok(path),
            Err(why) => Err(ExecError::NotExecutable { path, why }),
        };
    }
    let mut refused = None;
    for folder in env::split_paths(path.unwrap_or("/bin:/usr/bin".as_ref())) {
        // An empty part means the working directory. The dot keeps it a path.
        let file = if folder.as_os_str().is_empty() { Path::new(".").join(program) } else { folder.join(program) };
        match check_executable(&file) {
            Ok(()) => return Ok(file),
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => refused = refused.or(Some((file, why))),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some((path, why)) => ExecError::NotExecutable { path, why },
        None => ExecError::NotInPath { command: program.to_string_lossy().into_owned() },
    })
}

fn check_executable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "is a directory"));
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
    Ok(())
}
