//! `cargo xtask package`: the agent as it is installed: an archive, .deb, .rpm and an image, with checksums and a list of what
//! is inside.
//!
//! The same sources are to give the same bytes. The release does not contain paths of the machine (see `build`). Every time in the packages is
//! that of the last commit, every owner is root, and every list is sorted.

mod archive;
mod check;
mod contents;
mod image;
mod nfpm;
mod requirements;
mod sbom;
mod twice;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::test::Tally;
use crate::{Verb, build, setup, shell};

/// Build the release and make its packages in target/package: tar.gz, .deb, .rpm, an OCI image, an SBOM, and checksums.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Package this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Then build the last commit again, in another folder, and compare the packages byte by byte.
    #[arg(long, conflicts_with = "agent")]
    twice: bool,
    /// Then install each package in a clean root, trace a program with it, and remove it (root).
    #[arg(long)]
    check: bool,
}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        if self.check {
            shell::need_root("package --check", "checking packages needs root")?;
        }
        setup::make_ready(&[&setup::EBPF, &setup::PACKAGING, &setup::CYCLONEDX.part])?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => build::release()?.agent,
        };
        let packages = make(Release::of(agent)?, &build::target_dir()?.join("package"), true)?;
        for file in packages.files()? {
            let size = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
            shell::say(&format!("{} ({:.1} MB)", file.display(), size as f64 / 1e6));
        }
        if self.twice {
            twice::compare(&packages.dir)?;
        }
        let mut tally = Tally::default();
        if self.check {
            setup::make_ready(&[&setup::PACKAGES, &setup::COLLECTOR, &setup::CLEAN_ROOT])?;
            check::all(&packages, &mut tally)?;
            return Ok(tally.finish());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is packaged.
#[derive(Debug, Clone)]
struct Release {
    agent: PathBuf,
    version: &'static str,
    /// Seconds since 1970: the time of everything in the packages. <https://reproducible-builds.org/specs/source-date-epoch/>
    epoch: u64,
}

impl Release {
    fn of(agent: PathBuf) -> Result<Self> {
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => {
                let mut git = Command::new("git");
                shell::read(git.args(["log", "-1", "--format=%ct"]).current_dir(shell::workspace()?))?
            }
        };
        let epoch = epoch.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number: {epoch}"))?;
        Ok(Self { agent, version: env!("CARGO_PKG_VERSION"), epoch })
    }

    /// The same as text: `2026-11-30T12:00:00Z`.
    fn time(&self) -> Result<String> {
        let mut date = Command::new("date");
        let text = shell::read(date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{}", self.epoch)]))?;
        Ok(text.trim().to_owned())
    }

    /// The beginning of the names of files: `onlooker-0.1.0-linux-amd64`.
    fn name(&self) -> String {
        format!("onlooker-{}-linux-amd64", self.version)
    }
}

/// A folder with the packages of one release.
#[derive(Debug)]
struct Packages {
    release: Release,
    dir: PathBuf,
    archive: PathBuf,
    deb: PathBuf,
    rpm: PathBuf,
    image: PathBuf,
}

impl Packages {
    /// All files that are published, sorted.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.with_context(|| format!("cannot read {}", self.dir.display()))?.path());
        }
        files.sort();
        Ok(files)
    }
}

/// The file that `sha256sum --check` takes.
const CHECKSUMS: &str = "SHA256SUMS";

/// Makes all packages of `release` in `dir`, which is emptied before.
fn make(release: Release, dir: &Path, with_sbom: bool) -> Result<Packages> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let stage = contents::stage(&release, &scratch.path().join("stage"))?;
    let archive = archive::make(&release, &stage, dir)?;
    let [deb, rpm] = nfpm::make(&release, &stage, dir)?;
    let image = image::make(&release, &scratch.path().join("image"), dir)?;
    if with_sbom {
        sbom::make(&release, dir)?;
    }
    let packages = Packages { release, dir: dir.to_owned(), archive, deb, rpm, image };
    let names = packages.files()?.into_iter().filter_map(|file| Some(file.file_name()?.to_owned()));
    let sums = shell::read(Command::new("sha256sum").args(names).current_dir(dir))?;
    fs::write(dir.join(CHECKSUMS), sums).with_context(|| format!("cannot write {}", dir.join(CHECKSUMS).display()))?;
    Ok(packages)
}

/// Packages `agent` twice, and checks the packages. All of that is counted, or skipped with the reason.
pub(crate) fn check_in_ci(agent: &Path, tally: &mut Tally) -> Result<()> {
    if let Err(error) = setup::make_ready(&[&setup::PACKAGING, &setup::CLEAN_ROOT]) {
        tally.skip("the packages", &format!("{error:#}"));
        return Ok(());
    }
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let release = Release::of(agent.to_owned())?;
    let first = make(release.clone(), &scratch.path().join("first"), false)?;
    let second = make(release, &scratch.path().join("second"), false)?;
    tally.add("packages: two are identical", twice::same(&first.dir, &second.dir));
    check::all(&first, tally)
}
