//! Globs that match executables.

use std::path::Path;

use glob::{MatchOptions, Pattern, PatternError};

/// A glob that matches paths or file names of executables.
#[derive(Debug, Clone)]
pub(super) struct Executable {
    glob: Pattern,
    /// The glob has no slash and matches file names.
    by_name: bool,
}

/// How the file name of every path begins that a selector matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameBeginning<'selector> {
    pub beginning: &'selector str,
    /// This is the whole name.
    pub whole: bool,
}

impl Executable {
    /// Parses a glob. If it is the path of a link, the target matches as well, because /proc shows only targets.
    pub(super) fn parse(glob: &str) -> Result<Vec<Self>, PatternError> {
        let parse =
            |glob: &str| Ok::<_, PatternError>(Self { glob: Pattern::new(glob)?, by_name: !glob.contains('/') });
        let mut executables = vec![parse(glob)?];
        if glob.starts_with('/')
            && let Ok(target) = Path::new(glob).canonicalize()
            && let Some(target) = target.to_str().filter(|target| *target != glob)
        {
            executables.push(parse(&Pattern::escape(target))?);
        }
        Ok(executables)
    }

    pub(super) fn name(&self) -> NameBeginning<'_> {
        /// Every pattern has one of them, and so have bracketed slashes.
        const SPECIAL: [char; 4] = ['*', '?', '[', ']'];
        let glob = self.glob.as_str();
        let name = glob.rsplit_once('/').map_or(glob, |(_, name)| name);
        match name.find(SPECIAL) {
            None => NameBeginning { beginning: name, whole: true },
            Some(at) if self.by_name => NameBeginning { beginning: &name[..at], whole: false },
            // A star may match further folders.
            Some(_) => NameBeginning { beginning: "", whole: false },
        }
    }

    pub(super) fn matches(&self, path: &Path) -> bool {
        // A star also matches slashes: `*/nginx` is nginx in any folder.
        let options = MatchOptions { require_literal_separator: false, ..MatchOptions::new() };
        let whole = self.glob.matches_path_with(path, options);
        whole
            || self.by_name && path.file_name().is_some_and(|name| self.glob.matches_path_with(name.as_ref(), options))
    }
}
