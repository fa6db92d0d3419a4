//! Installs each package in a clean root, traces a program with it, and removes it again.

mod container;
mod root;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::{Collector, Nginx};
use onlooker_tests::{Agent, Curl, Recording, World, wait};

use self::root::Root;
use super::Packages;
use crate::shell;
use crate::test::Tally;

/// A kind of package.
struct Format {
    name: &'static str,
    file: fn(&Packages) -> &Path,
    /// Where its files are.
    prefix: &'static str,
    install: Step,
    remove: Step,
    /// The package manager's own records, which stay. Below the root.
    records: &'static [&'static str],
    /// Whether folders may stay that are empty.
    leaves_folders: bool,
}

/// A command of docs/packages.md. FILE stands for the package.
enum Step {
    /// A shell of the clean root runs it.
    Inside(&'static str),
    /// A program of the machine, which is given the root. docs/packages.md has the command without that.
    Rpm(&'static [&'static str]),
}

const FORMATS: &[Format] = &[
    Format {
        name: "tar.gz",
        file: |packages| &packages.archive,
        prefix: "/usr/local",
        install: Step::Inside("tar -xzf FILE -C /usr/local --strip-components=1"),
        remove: Step::Inside("tar -tzf FILE | sed 's,^[^/]*,/usr/local,' | xargs rm"),
        records: &[],
        leaves_folders: true,
    },
    Format {
        name: "deb",
        file: |packages| &packages.deb,
        prefix: "/usr",
        install: Step::Inside("dpkg -i FILE"),
        remove: Step::Inside("dpkg --purge onlooker"),
        records: &["var/lib/dpkg", "var/log/dpkg.log"],
        leaves_folders: false,
    },
    Format {
        name: "rpm",
        file: |packages| &packages.rpm,
        prefix: "/usr",
        // The C library of the root is not a package of rpm's.
        install: Step::Rpm(&["--install", "--nodeps", "FILE"]),
        remove: Step::Rpm(&["--erase", "onlooker"]),
        records: &["var/lib/rpm"],
        leaves_folders: false,
    },
];

/// Checks all packages, and counts each.
pub(super) fn all(packages: &Packages, tally: &mut Tally) -> Result<()> {
    wait::handle_signals()?;
    if let Some(reason) = Collector::skip_reason()? {
        tally.skip("the packages", &reason);
        return Ok(());
    }
    tally.add("packages: the documentation has the commands", documented());
    for format in FORMATS {
        let what = format!("{} is installed, traces and is removed", format.name);
        count(tally, &what, |world| check(world, format, packages));
    }
    count(tally, "the image traces a pod", |world| container::traces_a_pod(world, packages));
    count(tally, "the image refuses a pid namespace of its own", |world| container::refuses_own_pids(world, packages));
    Ok(())
}

/// Runs a check in a world of its own, and counts it. Says so if it passed: the tally repeats those that failed.
fn count(tally: &mut Tally, what: &str, check: impl FnOnce(&World) -> Result<()>) {
    let result = World::story(what, check);
    if result.is_ok() {
        shell::say(&format!("packages: {what}"));
    }
    tally.add(&format!("packages: {what}"), result);
}

/// Fails unless docs/packages.md has every command that is checked.
fn documented() -> Result<()> {
    let page = shell::file(&shell::workspace()?.join("docs/packages.md"))?;
    for step in FORMATS.iter().flat_map(|format| [&format.install, &format.remove]) {
        if let Step::Inside(command) = step {
            ensure!(page.contains(command), "docs/packages.md does not have the command {command}");
        }
    }
    Ok(())
}

fn check(world: &World, format: &Format, packages: &Packages) -> Result<()> {
    let root = Root::new(world.dir(), &packages.dir)?;
    let file = (format.file)(packages);
    perform(world, &root, &format.install, file)?;

    let inside = |command: &str| world.run_unwatched(&mut root.sh(world, command));
    let prefix = format.prefix;
    for command in [
        format!("{prefix}/bin/onlooker --version"),
        format!("bash -n {prefix}/share/bash-completion/completions/onlooker"),
        format!("gzip -t {prefix}/share/man/man1/onlooker-run.1.gz"),
        format!("{prefix}/bin/onlooker config check {prefix}/share/doc/onlooker/examples/config.yaml"),
    ] {
        inside(&command).with_context(|| command.clone())?;
    }
    if prefix == "/usr" {
        inside("onlooker config check /etc/onlooker/config.yaml && test -f /etc/onlooker/environment")?;
    }
    let unit = fs::read_to_string(root.changed(&format!("{prefix}/lib/systemd/system/onlooker.service")))
        .context("the package has no unit")?;
    trace(world, &root, &unit)?;

    perform(world, &root, &format.remove, file)?;
    let mut left = root.left(format.records)?;
    left.retain(|left| !(format.leaves_folders && left.is_folder));
    ensure!(left.is_empty(), "the package left {left:?}");
    Ok(())
}

/// Traces one request with the installed agent, which is started as the unit would start it.
fn trace(world: &World, root: &Root, unit: &str) -> Result<()> {
    let start = setting(unit, "ExecStart")?;
    let command = start.strip_suffix(" $ONLOOKER_SELECT").context("the unit's command takes selectors")?;
    let kept = kept_capabilities(unit)?;
    let collector = Collector::start(world)?;
    let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
    let script = format!("exec setpriv --no-new-privs --bounding-set=-all{kept} {command} --cgroup \"$1\"");
    let mut agent = root.sh(world, &script);
    agent.arg(world.cgroup().path()).envs(collector.environment("http/protobuf"));
    let mut recording = Recording::of_agent(Agent::start_command(world, &mut agent)?, collector.file());
    ensure!(Curl::run(world, &[&nginx.url("/hello")])?.status() == 200);
    let log = recording.agent().stderr()?;
    ensure!(!log.contains("WARN"), "{log}");
    let outcome = recording.finish(2)?;
    outcome.expect_tree(&[], "curl client GET /hello -> 200\n  nginx server GET /hello -> 200 by host")?;
    Ok(())
}

fn perform(world: &World, root: &Root, step: &Step, file: &Path) -> Result<()> {
    let mut command = match step {
        Step::Inside(command) => root.sh(world, &command.replace("FILE", &root.package(file)?)),
        Step::Rpm(arguments) => {
            let file = file.to_str().context("the path of the package is UTF-8")?;
            root.rpm(world, arguments.iter().map(|argument| if *argument == "FILE" { file } else { argument }))
        }
    };
    world.run_unwatched(&mut command).map(drop)
}

/// The value of a setting of the unit.
fn setting<'unit>(unit: &'unit str, name: &str) -> Result<&'unit str> {
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("the unit has no {name}"))
}

/// The unit's capabilities, as setpriv takes them: `,+bpf,+perfmon`.
fn kept_capabilities(unit: &str) -> Result<String> {
    let names = setting(unit, "CapabilityBoundingSet")?.split(' ');
    Ok(names.map(|name| name.replace("CAP_", ",+").to_lowercase()).collect())
}

/// A shell that runs `script` after it mounted `mounts` in a mount namespace of its own, which ends with it.
fn in_own_mounts(world: &World, namespaces: &[&str], mounts: &str, script: &str) -> Command {
    let mut command = world.command("unshare");
    command.args(["--mount", "--propagation=private"]).args(namespaces);
    command.args(["sh", "-ec", &format!("{mounts}\n{script}"), "sh"]);
    command
}
