//! What the agent needs from the system that it is installed on: shared libraries, and the versions of their symbols.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// The shared libraries that the agent is linked with, as its dynamic section names them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requirements {
    /// Each library with the newest version of its symbols that is used, if they have versions.
    libraries: BTreeMap<String, Option<Version>>,
}

/// `GLIBC_2.34`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: Vec<u32>,
    name: String,
}

impl Requirements {
    pub(super) fn of(agent: &Path) -> Result<Self> {
        Self::parse(&shell::read(Command::new("objdump").arg("-p").arg(agent))?)
    }

    /// Reads what `objdump -p` prints.
    fn parse(text: &str) -> Result<Self> {
        let mut libraries = BTreeMap::new();
        let mut of = None;
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match *words.as_slice() {
                ["NEEDED", library] => {
                    libraries.insert(library.to_owned(), None);
                }
                ["required", "from", library] => of = Some(library.trim_end_matches(':').to_owned()),
                [hash, _, _, name] if hash.starts_with("0x") => {
                    let newest = of.as_ref().and_then(|library| libraries.get_mut(library));
                    let version = Version::parse(name);
                    if let Some(newest) = newest
                        && version > *newest
                    {
                        *newest = version;
                    }
                }
                _ => {}
            }
        }
        if !libraries.contains_key(C_LIBRARY) {
            bail!("the agent is not linked with {C_LIBRARY}");
        }
        Ok(Self { libraries })
    }

    /// Debian's packages that have the libraries.
    pub(super) fn debian(&self) -> Result<Vec<String>> {
        let numbers = &self.c_library()?.numbers;
        let version = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        // The C library's package also has libm and the loader.
        Ok(vec![format!("libc6 (>= {version})"), "libgcc-s1".to_owned()])
    }

    /// What every distribution with rpm calls them.
    pub(super) fn rpm(&self) -> Vec<String> {
        let version =
            |version: &Option<Version>| version.as_ref().map(|version| version.name.clone()).unwrap_or_default();
        self.libraries.iter().map(|(library, newest)| format!("{library}({})(64bit)", version(newest))).collect()
    }

    fn c_library(&self) -> Result<&Version> {
        self.libraries.get(C_LIBRARY).and_then(Option::as_ref).context("symbols of the C library have versions")
    }
}

const C_LIBRARY: &str = "libc.so.6";

impl Version {
    fn parse(name: &str) -> Option<Self> {
        let numbers = name.split_once('_')?.1.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { numbers, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Requirements;

    const OBJDUMP: &str = "
Dynamic Section:
  NEEDED               libgcc_s.so.1
  NEEDED               libc.so.6
  NEEDED               ld-linux-x86-64.so.2
  INIT                 0x0000000000127000

Version References:
  required from libgcc_s.so.1:
    0x0b792650 0x00 04 GCC_3.0
    0x09276060 0x00 13 GCC_4.2.0
  required from libc.so.6:
    0x069691b4 0x00 02 GLIBC_2.34
    0x09691a75 0x00 03 GLIBC_2.2.5
    0x06969197 0x00 11 GLIBC_2.17
";

    #[test]
    fn the_newest_version_of_each_library_is_required() {
        let requirements = Requirements::parse(OBJDUMP).unwrap();
        assert_eq!(requirements.debian().unwrap(), ["libc6 (>= 2.34)", "libgcc-s1"]);
        assert_eq!(
            requirements.rpm(),
            ["ld-linux-x86-64.so.2()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)", "libgcc_s.so.1(GCC_4.2.0)(64bit)"]
        );
    }

    #[test]
    fn a_static_agent_is_no_release() {
        assert!(Requirements::parse("Program Header:\n").is_err());
    }
}
