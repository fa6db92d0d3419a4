//! Starts the image as a container runtime would, and traces a process of a pod with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::Nginx;
use onlooker_tests::{Agent, Curl, Recording, World};
use serde_json::Value;

use super::super::{Packages, image};
use super::{in_own_mounts, kept_capabilities};
use crate::shell;

/// The id of a container, and its cgroup as the kubelet and containerd name it.
const CONTAINER: &str = "4ac0b7b2a3f4e5d6c7b8a9900112233445566778899aabbccddeeff001122334";
const POD: &str =
    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod4e7a6f1c_0b1d_4c55_9a33_1f0f6f3f7c11.slice";

/// Where the configuration and the spans are in the container.
const VOLUME: &str = "/onlooker-data";

/// The namespaces that the container has for itself. A DaemonSet with `hostPID` has all of these.
const OWN: [&str; 4] = ["--net", "--cgroup", "--uts", "--ipc"];

/// The agent is in the namespaces of the host's processes, and in its own otherwise.
pub(super) fn traces_a_pod(world: &World, packages: &Packages) -> Result<()> {
    let container = Container::unpack(world, packages)?;
    let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
    let pod = world.cgroup().path().join(POD).join(format!("cri-containerd-{CONTAINER}.scope"));
    fs::create_dir_all(&pod).with_context(|| format!("cannot create the cgroup {}", pod.display()))?;
    for pid in shell::file(&world.cgroup().path().join("cgroup.procs"))?.lines() {
        fs::write(pod.join("cgroup.procs"), pid).with_context(|| format!("cannot move process {pid}"))?;
    }
    let agent = Agent::start_command(world, &mut container.start(world, &OWN)?)?;
    let mut recording = Recording::of_agent(agent, &container.volume.join("spans.jsonl"));
    ensure!(Curl::run(world, &[&nginx.url("/hello")])?.status() == 200);
    let log = recording.agent().stderr()?;
    ensure!(!log.contains("WARN"), "{log}");
    // Only the server is in the pod.
    let outcome = recording.finish(1)?;
    outcome.expect_tree(&[], "nginx server GET /hello -> 200")?;
    let resource = &outcome.spans[0].resource;
    ensure!(resource.get("container.id").is_some_and(|id| id == CONTAINER), "{resource:?}");
    Ok(())
}

/// The kernel knows processes by the host's ids. In a pid namespace the agent would trace others than those that it selects.
pub(super) fn refuses_own_pids(world: &World, packages: &Packages) -> Result<()> {
    let container = Container::unpack(world, packages)?;
    let namespaces = [&OWN[..], &["--pid", "--fork", "--kill-child"]].concat();
    let output = world.output_of(&mut container.start(world, &namespaces)?)?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && log.contains("hostPID"), "{} {log}", output.status);
    Ok(())
}

/// The image, unpacked.
struct Container {
    bundle: PathBuf,
    entrypoint: Vec<String>,
    volume: PathBuf,
}

impl Container {
    fn unpack(world: &World, packages: &Packages) -> Result<Self> {
        let dir = world.dir().join("image");
        let bundle = image::unpack(&packages.image, packages.release.version, &dir)?;
        // The configuration of a runtime: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>
        let spec: Value = serde_json::from_str(&shell::file(&bundle.join("config.json"))?)?;
        let words = spec["process"]["args"].as_array().context("the image has no command")?;
        let entrypoint: Vec<_> = words.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect();
        ensure!(entrypoint == [image::ENTRYPOINT], "{entrypoint:?}");
        let volume = dir.join("volume");
        fs::create_dir(&volume).with_context(|| format!("cannot create {}", volume.display()))?;
        let configuration = format!(
            "file_format: \"1.1\"
tracer_provider:
  processors:
    - batch: {{exporter: {{otlp_file/development: {{output_stream: \"file://{VOLUME}/spans.jsonl\"}}}}}}
extensions:
  onlooker:
    selection:
      - {{container: \"{}*\"}}
",
            &CONTAINER[..12]
        );
        fs::write(volume.join("config.yaml"), configuration).context("cannot write the configuration")?;
        Ok(Self { bundle, entrypoint, volume })
    }

    /// The command that starts the image with the unit's capabilities. Nothing of the machine's files can be seen in it.
    fn start(&self, world: &World, namespaces: &[&str]) -> Result<Command> {
        let root = self.bundle.join("rootfs");
        let unit = shell::file(&shell::workspace()?.join("deploy/systemd/onlooker.service"))?;
        // A runtime creates the points where it mounts.
        for point in ["proc", "sys", VOLUME.trim_start_matches('/')] {
            let point = root.join(point);
            fs::create_dir_all(&point).with_context(|| format!("cannot create {}", point.display()))?;
        }
        let at = root.display();
        let mounts = format!(
            "mount --bind '{at}' '{at}'
             mount -t proc proc '{at}/proc'
             mount -t sysfs -o ro sysfs '{at}/sys'
             mount -t cgroup2 cgroup2 '{at}/sys/fs/cgroup'
             mount -t tracefs tracefs '{at}/sys/kernel/tracing'
             mount --bind '{}' '{at}{VOLUME}'
             mount -o remount,bind,ro '{at}'",
            self.volume.display()
        );
        // chroot needs a capability that runtimes leave to containers, too.
        let start = format!(
            "exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot{} chroot '{at}' \"$@\"",
            kept_capabilities(&unit)?
        );
        let mut command = in_own_mounts(world, namespaces, &mounts, &start);
        command.args(&self.entrypoint).args(["run", "--config"]).arg(Path::new(VOLUME).join("config.yaml"));
        Ok(command)
    }
}
