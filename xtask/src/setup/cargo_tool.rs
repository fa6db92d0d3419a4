//! Tools from crates.io. Each is compiled into a folder of its own in the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

use super::Part;
use crate::shell;

/// A tool that cargo compiles, at the version that the project was tested with.
pub(crate) struct CargoTool {
    /// The crate, its binary and its folder in the cache.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// A tool that waits for other programs most of the time is compiled without optimisation, in a fraction of the time.
    pub(crate) optimised: bool,
}

/// A tool that is a part of the set-up by itself.
pub(crate) struct ToolPart {
    pub(crate) tool: CargoTool,
    pub(crate) part: Part,
}

/// Checks licences, sources and duplicates of dependencies: `cargo xtask lint`.
pub(crate) const DENY: ToolPart = ToolPart {
    tool: CargoTool { name: "cargo-deny", version: "0.20.2", optimised: false },
    part: Part {
        name: "deny",
        about: "cargo-deny, which checks the dependencies",
        by_default: true,
        make_ready: |cache| DENY.tool.make_ready(cache),
    },
};

/// Changes the code and reports which changes no test notices: `cargo xtask mutants`.
pub(crate) const MUTANTS: ToolPart = ToolPart {
    tool: CargoTool { name: "cargo-mutants", version: "27.1.0", optimised: false },
    part: Part {
        name: "mutants",
        about: "cargo-mutants, which checks the tests (on demand)",
        by_default: false,
        make_ready: |cache| MUTANTS.tool.make_ready(cache),
    },
};

/// Lists the dependencies of what is released: `cargo xtask package`.
pub(crate) const CYCLONEDX: ToolPart = ToolPart {
    tool: CargoTool { name: "cargo-cyclonedx", version: "0.5.9", optimised: false },
    part: Part {
        name: "cyclonedx",
        about: "cargo-cyclonedx, which lists what is in the packages (on demand)",
        by_default: false,
        make_ready: |cache| CYCLONEDX.tool.make_ready(cache),
    },
};

impl CargoTool {
    /// The binary, installed or not.
    pub(crate) fn path(&self, cache: &Cache) -> PathBuf {
        self.root(cache).join("bin").join(self.name)
    }

    fn root(&self, cache: &Cache) -> PathBuf {
        cache.dir().join(self.name)
    }

    /// Installs this version unless it is there.
    pub(super) fn make_ready(&self, cache: &Cache) -> Result<()> {
        let Self { name, version, optimised } = *self;
        // Cargo writes the list last: "cargo-deny 0.20.2 (registry+...)" = ["cargo-deny"]
        let installed = fs::read_to_string(self.root(cache).join(".crates.toml")).unwrap_or_default();
        if installed.contains(&format!("\"{name} {version} ")) && self.path(cache).is_file() {
            shell::say(&format!("{name}: {version} (already there)"));
            return Ok(());
        }
        shell::say(&format!("{name}: compiling {version}"));
        let mut cargo = shell::cargo()?;
        cargo.args(["install", name, "--version", version, "--locked", "--force", "--root"]).arg(self.root(cache));
        if !optimised {
            cargo.args(["--profile", "dev", "--config", "profile.dev.debug=false"]);
        }
        // Outside of the workspace, whose settings are not meant for the tool.
        shell::run(cargo.current_dir(cache.dir())).with_context(|| format!("cannot install {name} {version}"))
    }
}
