//! The files in `deploy/` work as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::kubernetes::{ApiServer, Driver, Node, Owned, PodSpec};
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{Collector, Nginx};
use onlooker_tests::wait::within;
use onlooker_tests::{Agent, Curl, Networks, Recording, World, agent_binary, record_skip};

/// systemd mounts tracefs when a machine boots.
const MOUNT_TRACEFS: &str = "{ mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; }";

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
    let confined = format!(
        "{MOUNT_TRACEFS} && mount -o remount,bind,ro / && \
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

fn manifests() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/onlooker.yaml");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The configuration file in the ConfigMap of the manifests.
fn configuration(manifests: &str) -> Result<String> {
    let (_, block) = manifests.split_once("  onlooker.yaml: |\n").context("the ConfigMap has the file")?;
    let lines = block.lines().take_while(|line| line.starts_with("    "));
    Ok(lines.map(|line| format!("{}\n", &line[4..])).collect())
}

#[test]
fn the_configuration_of_the_manifests_is_valid() -> Result<()> {
    World::story("manifests", |world| {
        let file = world.dir().join("onlooker.yaml");
        fs::write(&file, configuration(&manifests()?)?)?;
        let output = world.output_of(world.command(agent_binary()?).args(["config", "check"]).arg(&file))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && stdout == format!("{}: valid\n", file.display()), "{stdout}");
        Ok(())
    })
}

/// Starts the agent as the container would: with its capabilities, a read-only root, and namespaces of its own except for process ids.
#[test]
fn the_privileges_of_the_daemon_set_suffice_to_trace_a_pod() -> Result<()> {
    if ["setpriv", "unshare", "nsenter"].iter().any(|program| find_program(program).is_none()) {
        record_skip("setpriv, unshare or nsenter is not installed");
        return Ok(());
    }
    let manifests = manifests()?;
    for line in [
        "hostPID: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "command: [/onlooker]",
    ] {
        ensure!(manifests.contains(line), "{line}");
    }
    let added = manifests.lines().find_map(|line| line.trim().strip_prefix("add: [")?.strip_suffix(']'));
    let kept: String =
        added.context("capabilities are added")?.split(", ").map(|name| format!(",+{}", name.to_lowercase())).collect();
    let confined = |writable: &Path| {
        let dir = writable.display();
        format!(
            "hostname onlooker-x2x4z && mount --bind {dir} {dir} && {MOUNT_TRACEFS} && mount -o remount,bind,ro / && \
         exec setpriv --no-new-privs --bounding-set=-all{kept} \"$@\""
        )
    };
    World::story("daemon-set", |world| {
        const NODE: &str = "node-1";
        // Pods of the node are in other networks than the agent.
        let Networks { ends: [network, _] } = Networks::create()?;
        let api = ApiServer::start_on(network.listen()?)?;
        let node = Node::new(world, Driver::Systemd, env!("CARGO_BIN_EXE_pod_app").as_ref());
        let pods = [1, 2].map(|number| PodSpec::numbered(number, Owned::Deployment, &["api"]));
        // The rule keeps to the pods of this test.
        let config = world.dir().join("onlooker.yaml");
        let rules = "{selection: [{kubernetes: {namespace: team-1}}]}";
        fs::write(&config, format!("file_format: \"1.1\"\nextensions: {{onlooker: {rules}}}\n"))?;
        let spans = world.dir().join("spans.jsonl");
        fs::write(&spans, "")?;
        let mut agent = world.command("nsenter");
        agent
            .arg(format!("--net={}", network.path().display()))
            .args(["unshare", "--mount", "--uts", "--ipc", "--cgroup", "sh", "-c", &confined(world.dir()), "sh"])
            .arg(agent_binary()?);
        agent.args(["run", "--kubernetes", "on", "--config"]).arg(&config).arg("--file").arg(&spans);
        agent.env("KUBECONFIG", api.kubeconfig(world.dir())?).env("K8S_NODE_NAME", NODE);
        agent.env("RUST_LOG", "warn,onlooker::watch=debug");
        pods.iter().for_each(|pod| api.apply(pod.object(NODE, true)));
        let mut recording = Recording::of_agent(Agent::start_command(world, &mut agent)?, &spans);
        for pod in &pods {
            let running = node.start(pod, 0, &[])?;
            if pod.uid == pods[0].uid {
                // A rule about pods takes effect when the agent has looked at the process.
                recording.agent().wait_for_log(within(Duration::from_secs(60)), "comm=\"pod_app\"")?;
            }
            ensure!(Curl::run(world, &[&format!("http://{}/{}", running.address, pod.name)])?.status() == 200);
        }
        let output = recording.agent().stderr()?;
        ensure!(!output.contains("WARN"), "{output}");
        let outcome = recording.finish(1)?;
        let resource = &outcome.spans[0].resource;
        let of_pod = ["k8s.pod.name", "service.name", "container.id"].map(|key| resource.get(key).map(String::as_str));
        ensure!(of_pod == [Some(&*pods[0].name), Some("app-1"), Some(&pods[0].containers[0].1)], "{resource:?}");
        // Where even root may not see the namespaces of process 1, nothing shows that the name is the container's.
        if fs::read_link("/proc/1/ns/uts").is_ok() {
            ensure!(resource.get("host.name").is_none_or(|name| name != "onlooker-x2x4z"), "{resource:?}");
        }
        Ok(())
    })
}
