//! What `deploy/` offers, used as it is offered.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{Collector, Nginx};
use onlooker_tests::{Agent, Curl, Recording, World, agent_beside, record_skip};

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/onlooker.service")
}

/// What the unit says of `setting`.
fn setting(unit: &str, setting: &str) -> Result<String> {
    let value = unit.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    value.map(str::to_owned).with_context(|| format!("the unit does not say {setting}"))
}

#[test]
fn systemd_understands_the_unit() -> Result<()> {
    if find_program("systemd-analyze").is_none() {
        record_skip("systemd-analyze is not installed");
        return Ok(());
    }
    World::story("unit", |world| {
        // It looks whether the program is there: where this build has it.
        let agent = agent_beside()?.canonicalize()?;
        let text = fs::read_to_string(unit())?.replace("/usr/local/bin/onlooker", &agent.to_string_lossy());
        let unit = world.dir().join("onlooker.service");
        fs::write(&unit, text)?;
        let said = world.ask(world.command("systemd-analyze").arg("verify").arg(&unit))?;
        // A setting that it does not know is a warning, and nothing for its exit code.
        let stderr = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success() && !stderr.contains("onlooker.service"), "{} {stderr}", said.status);
        Ok(())
    })
}

/// Not under systemd, which may not run here: the capabilities and the read-only file systems that the unit leaves are taken
/// from it.
#[test]
fn what_the_unit_leaves_is_enough_to_trace_through_the_collector() -> Result<()> {
    if find_program("setpriv").is_none() || find_program("unshare").is_none() {
        record_skip("setpriv or unshare is not installed");
        return Ok(());
    }
    if let Some(reason) = Collector::missing()? {
        record_skip(&reason);
        return Ok(());
    }
    let unit = fs::read_to_string(unit())?;
    ensure!(setting(&unit, "ExecStart")? == "/usr/local/bin/onlooker run $ONLOOKER_SELECT");
    ensure!(setting(&unit, "NoNewPrivileges")? == "yes" && setting(&unit, "ProtectSystem")? == "strict");
    let capabilities = setting(&unit, "CapabilityBoundingSet")?;
    let kept: String = capabilities.split(' ').map(|name| name.replace("CAP_", ",+").to_lowercase()).collect();
    // systemd mounts tracefs at every boot.
    let confined = format!(
        "mount -t tracefs tracefs /sys/kernel/tracing && mount -o remount,bind,ro / && \
         exec setpriv --no-new-privs --bounding-set=-all{kept} \"$@\""
    );
    World::story("unit", |world| {
        Collector::validate(world)?;
        let collector = Collector::start(world)?;
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let mut agent = world.command("unshare");
        agent.args(["--mount", "sh", "-c", &confined, "sh"]).arg(agent_beside()?).args(["run", "--cgroup"]);
        agent.arg(world.cgroup().path()).envs(collector.environment("http/protobuf"));
        let mut recording = Recording::by(Agent::start_by(world, &mut agent)?, collector.file());
        ensure!(Curl::run(world, &[&nginx.url("/hello")])?.status() == 200);
        // Nothing is missing that root would have.
        let said = recording.agent().stderr()?;
        ensure!(!said.contains("WARN"), "{said}");
        let account = recording.finish(2)?;
        account.is_tree(&[], "curl client GET /hello -> 200\n  nginx server GET /hello -> 200 by host")?;
        // nginx's workers are another user's: it takes privileges to see what they execute.
        let path = account.spans[1].resource.get("process.executable.path").map(String::as_str);
        let nginx = find_program("nginx").context("nginx is installed")?.canonicalize()?;
        ensure!(path == nginx.to_str(), "{:?}", account.spans[1].resource);
        Ok(())
    })
}
