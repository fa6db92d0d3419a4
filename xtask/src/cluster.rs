//! `cargo xtask cluster`: Onlooker with a real kube-apiserver and etcd.
//!
//! There is no kubelet. Pods are created as a scheduler and a kubelet would create them, and their containers are processes in
//! cgroups that are named as the kubelet names them.

mod comparison;
mod control_plane;
mod dry_run;
mod show;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use onlooker_tests::{World, wait};

use self::control_plane::ControlPlane;
use crate::build::{self, Profile};
use crate::setup::{self, KUBERNETES, MANIFESTS, PODS_COLLECTOR};
use crate::{Verb, manifests, shell};

/// Validate the manifests and the chart with a real kube-apiserver, and trace 200 pods that come and go (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the result to docs/kubernetes.md.
    #[arg(long)]
    write: bool,
    /// How many pods come and go.
    #[arg(long, default_value_t = 200)]
    pods: u32,
    /// For how many seconds the API server is killed.
    #[arg(long, default_value_t = 60)]
    outage: u64,
    /// Trace with this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
}

/// Everything below this line is written by this verb.
const MARK: &str = "<!-- Below: written by `cargo xtask cluster --write`. -->";

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("cluster", "loading programs into the kernel needs root")?;
        setup::make_ready(&[&setup::EBPF, &KUBERNETES, &MANIFESTS, &PODS_COLLECTOR])?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => build::agent(Profile::Release)?,
        };
        let pod_app = build::test_program("pod_app")?;
        wait::handle_signals()?;
        let lines = World::story("the cluster", |world| {
            let mut control_plane = ControlPlane::start(world)?;
            let mut lines = vec![format!("kube-apiserver {} with etcd, no kubelet.", control_plane.version()?)];
            lines.extend([manifests::conform()?, dry_run::validate(&control_plane)?]);
            let show = show::Show { world, agent: &agent, pod_app: &pod_app };
            lines.extend(show.run(&mut control_plane, self.pods, self.outage)?);
            Ok(lines)
        })?;
        for line in &lines {
            shell::say(line);
        }
        if self.write {
            write(&lines)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(lines: &[String]) -> Result<()> {
    let path = shell::workspace()?.join("docs/kubernetes.md");
    let text = shell::file(&path)?;
    let (head, _) = text.split_once(MARK).with_context(|| format!("{} has no line `{MARK}`", path.display()))?;
    let items: String = lines.iter().map(|line| format!("- {line}\n")).collect();
    fs::write(&path, format!("{head}{MARK}\n\n{items}")).with_context(|| format!("cannot write {}", path.display()))
}
