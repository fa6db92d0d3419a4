//! The files in `deploy/` work as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{Collector, Nginx};
use onlooker_tests::{Agent, Curl, Recording, World, agent_binary, record_skip};

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/onlooker.service")
}

/// Returns the value of `setting` in the unit.
fn setting(unit: &str, setting: &str) -> Result<String> {
    let value = unit.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    value.map(str::to_owned).with_context(|| format!("the unit does not contain {setting}"))
}

#[test]
fn systemd_accepts_the_unit() -> Result<()> {
    if find_program("systemd-analyze").is_none() {
        record_skip("systemd-analyze is not installed");
        return Ok(());
    }
    World::story("unit", |world| {
        // systemd-analyze checks that the program exists, so let the unit name this build's binary.
        let agent = agent_binary()?.canonicalize()?;
        let start = format!("ExecStart={}", agent.display());
        let text = fs::read_to_string(unit())?.replace("ExecStart=onlooker", &start);
        let unit = world.dir().join("onlooker.service");
        fs::write(&unit, text)?;
        let output = world.output_of(world.command("systemd-analyze").args(["verify", "--man=no"]).arg(&unit))?;
        // The man pages are in the packages. An unknown setting is a warning and does not change the exit code.
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !stderr.contains("onlooker.service"), "{} {stderr}", output.status);
        Ok(())
    })
}

/// systemd may not run here, so this test applies the unit's capabilities and read-only file systems itself.
#[test]
fn the_privileges_of_the_unit_suffice_to_trace_and_export() -> Result<()> {
    if find_program("setpriv").is_none() || find_program("unshare").is_none() {
        record_skip("setpriv or unshare is not installed");
        return Ok(());
    }
    if let Some(reason) = Collector::skip_reason()? {
        record_skip(&reason);
        return Ok(());
    }
    let unit = fs::read_to_string(unit())?;
    ensure!(setting(&unit, "ExecStart")? == "onlooker run $ONLOOKER_SELECT");
    ensure!(setting(&unit, "NoNewPrivileges")? == "yes" && setting(&unit, "ProtectSystem")? == "strict");
    let capabilities = setting(&unit, "CapabilityBoundingSet")?;
    let kept: String = capabilities.split(' ').map(|name| name.replace("CAP_", ",+").to_lowercase()).collect();
    // systemd mounts tracefs when the machine boots.
    let confined = format!(
        "{{ test -e /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing; }} && \
         mount -o remount,bind,ro / && \
         exec setpriv --no-new-privs --bounding-set=-all{kept} \"$@\""
    );
    World::story("unit", |world| {
        Collector::validate(world)?;
        let collector = Collector::start(world)?;
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let mut agent = world.command("unshare");
        agent.args(["--mount", "sh", "-c", &confined, "sh"]).arg(agent_binary()?).args(["run", "--cgroup"]);
        agent.arg(world.cgroup().path()).envs(collector.environment("http/protobuf"));
        let mut recording = Recording::of_agent(Agent::start_command(world, &mut agent)?, collector.file());
        ensure!(Curl::run(world, &[&nginx.url("/hello")])?.status() == 200);
        // The agent must not miss anything that root would have.
        let output = recording.agent().stderr()?;
        ensure!(!output.contains("WARN"), "{output}");
        let outcome = recording.finish(2)?;
        outcome.expect_tree(&[], "curl client GET /hello -> 200\n  nginx server GET /hello -> 200 by host")?;
        // nginx's workers run as another user. Reading their executable requires privileges.
        let path = outcome.spans[1].resource.get("process.executable.path").map(String::as_str);
        let nginx = find_program("nginx").context("nginx is installed")?.canonicalize()?;
        ensure!(path == nginx.to_str(), "{:?}", outcome.spans[1].resource);
        Ok(())
    })
}
