//! `cargo xtask manifests`: checks deploy/kubernetes and the chart against the schemas of Kubernetes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::setup::manifests::{MANIFESTS, RELEASES, helm, kubeconform, schema_location};
use crate::{Verb, setup, shell};

/// Check deploy/kubernetes and the chart against the schemas of Kubernetes, with kubeconform.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// Values that change what the chart makes.
pub(crate) const VALUES: &[&[&str]] = &[
    &[],
    &["contextPropagation.enabled=true", "hostNetwork=true", "priorityClassName=system-node-critical", "env.A=b"],
    &["privileged=true", "extraArgs={-v}"],
    &["rbac.create=false", "serviceAccount.create=false", "config.create=false", "image.digest=sha256:ab"],
    &["extraCapabilities={SYSLOG}", "envValueFrom.TOKEN.secretKeyRef.name=s", "envValueFrom.TOKEN.secretKeyRef.key=k"],
];

/// The plain manifests.
pub(crate) fn plain() -> Result<PathBuf> {
    Ok(shell::workspace()?.join("deploy/kubernetes/onlooker.yaml"))
}

pub(crate) fn chart() -> Result<PathBuf> {
    Ok(shell::workspace()?.join("deploy/helm/onlooker"))
}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&MANIFESTS])?;
        shell::say(&conform()?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Fails unless everything has the fields that the oldest and a new release of Kubernetes know, with the right types. Returns a sentence about it.
pub(crate) fn conform() -> Result<String> {
    let plain = shell::file(&plain()?)?;
    // A check that accepts everything would be no check.
    let wrong = plain.replace("hostPID: true", "hostPid: true");
    ensure!(wrong != plain, "the plain manifests share no process ids");
    for release in RELEASES {
        check(release, &plain).context("deploy/kubernetes")?;
        ensure!(check(release, &wrong).is_err(), "kubeconform accepts an unknown field for {release}");
        for values in VALUES {
            check(release, &template(values, release)?).with_context(|| format!("the chart with {values:?}"))?;
        }
    }
    Ok(format!(
        "kubeconform accepts deploy/kubernetes and the chart with {} sets of values, by the strict schemas of Kubernetes {}.",
        VALUES.len(),
        RELEASES.join(" and ")
    ))
}

/// What the chart makes with these values for a release of Kubernetes.
pub(crate) fn template(values: &[&str], release: &str) -> Result<String> {
    let mut helm = Command::new(helm()?);
    helm.args(["template", "release"]).arg(chart()?).args(["--namespace", "onlooker", "--kube-version", release]);
    for value in values {
        helm.args(["--set", value]);
    }
    shell::read(&mut helm)
}

/// Fails unless every object of the text is valid in a release of Kubernetes.
fn check(release: &str, manifests: &str) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let file: &Path = &folder.path().join("manifests.yaml");
    fs::write(file, manifests).with_context(|| format!("cannot write {}", file.display()))?;
    let mut check = Command::new(kubeconform()?);
    check.args(["-strict", "-kubernetes-version", release, "-schema-location", &schema_location()?]).arg(file);
    let output = check.output().context("cannot start kubeconform")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "Kubernetes {release} refuses it:\n{}", printed.trim());
    Ok(())
}
