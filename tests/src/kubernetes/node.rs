//! A node: it runs processes in cgroups of pods, as the kubelet and containerd do.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::PodSpec;
use crate::world::World;

/// How the kubelet manages cgroups, which decides how they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Systemd,
    Cgroupfs,
}

/// Runs containers in a world's watched cgroup.
#[derive(Debug)]
pub struct Node {
    world: World,
    driver: Driver,
    /// The program that runs in each container: see `pod_app`.
    program: PathBuf,
}

/// A process in a container's cgroup. It is killed when this is dropped, and its cgroup is removed.
#[derive(Debug)]
pub struct RunningContainer {
    child: Child,
    cgroup: PathBuf,
    /// Where it serves, as `ADDRESS:PORT`.
    pub address: String,
}

impl Node {
    /// A node whose containers run `program`.
    #[must_use]
    pub fn new(world: &World, driver: Driver, program: &Path) -> Self {
        Self { world: world.clone(), driver, program: program.to_owned() }
    }

    /// Starts a container of a pod, with these variables in its environment.
    pub fn start(&self, pod: &PodSpec, container: usize, variables: &[(&str, &str)]) -> Result<RunningContainer> {
        let (_, id) = pod.containers.get(container).context("the pod has the container")?;
        let cgroup = self.world.cgroup().path().join(self.driver.path(&pod.uid, id));
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot create {}", cgroup.display()))?;
        let procs = cgroup.join("cgroup.procs");
        let mut procs =
            File::options().write(true).open(&procs).with_context(|| format!("cannot open {}", procs.display()))?;
        let mut command = self.world.command(&self.program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).envs(variables.iter().copied());
        // SAFETY: between fork and exec only async-signal-safe functions may run. This is one write(2) to an open file.
        unsafe { command.pre_exec(move || procs.write_all(b"0")) };
        Self::wait_until_it_serves(&mut command, cgroup)
    }

    fn wait_until_it_serves(command: &mut Command, cgroup: PathBuf) -> Result<RunningContainer> {
        let mut child = command.spawn().context("cannot start a container's process")?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        BufReader::new(stdout).read_line(&mut address).context("cannot read the address of a container's process")?;
        Ok(RunningContainer { child, cgroup, address: address.trim().to_owned() })
    }
}

impl Driver {
    /// The path of a container's cgroup.
    fn path(self, uid: &str, id: &str) -> PathBuf {
        match self {
            Self::Systemd => {
                let pod = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
                Path::new("kubepods.slice/kubepods-burstable.slice")
                    .join(pod)
                    .join(format!("cri-containerd-{id}.scope"))
            }
            Self::Cgroupfs => Path::new("kubepods/burstable").join(format!("pod{uid}")).join(id),
        }
    }
}

impl Drop for RunningContainer {
    fn drop(&mut self) {
        // It ends when its stdin is closed. If not, removing the world's cgroup kills it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.cgroup);
        // The pod's cgroup goes with its last container.
        let _ = self.cgroup.parent().map(fs::remove_dir);
    }
}
