//! `cargo xtask sql-check`: compares summaries of SQL with PostgreSQL's own parser.
//!
//! `protocols/sql-check` does the comparison. It compiles libpg_query, which takes minutes the first time and needs
//! libclang, so neither `cargo xtask test` nor CI runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use crate::{Verb, shell};

/// Compare summaries of SQL with PostgreSQL's own parser, and print every difference. Needs libclang.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Files for psql, or folders of them, such as src/test/regress/sql of PostgreSQL's source
    /// (`apt-get source postgresql-15`).
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        let mut files = Vec::new();
        for path in &self.paths {
            files.extend(sql_files(path)?);
        }
        shell::say(&format!("sql-check: {} files", files.len()));
        let check =
            ["run", "--quiet", "--release", "--locked", "--manifest-path", "protocols/sql-check/Cargo.toml", "--"];
        shell::run(shell::cargo()?.args(check).args(&files))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file itself, or the `.sql` files of a folder in the order of their names.
fn sql_files(path: &Path) -> Result<Vec<PathBuf>> {
    let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let unreadable = || format!("cannot read {}", path.display());
    let entries: std::io::Result<Vec<_>> = fs::read_dir(&path).with_context(unreadable)?.collect();
    let mut files: Vec<_> = entries.with_context(unreadable)?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    ensure!(!files.is_empty(), "{} has no .sql file", path.display());
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::sql_files;

    #[test]
    fn a_folder_stands_for_its_sql_files_in_order() {
        let folder = std::env::temp_dir().join(format!("onlooker-sql-check-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(sql_files(&folder).is_err(), "nothing to check is an error");
        for name in ["join.sql", "create.sql", "README"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = sql_files(&folder).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["create.sql", "join.sql"]);
        assert_eq!(sql_files(&folder.join("README")).unwrap(), [folder.join("README").canonicalize().unwrap()]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(sql_files(&folder).is_err());
    }
}
