//! The API server accepts the manifests and the chart, field by field.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::control_plane::ControlPlane;
use crate::shell;

/// Values that change what the chart makes.
const VALUES: &[&[&str]] = &[
    &[],
    &["contextPropagation.enabled=true", "hostNetwork=true", "priorityClassName=system-node-critical", "env.A=b"],
    &["privileged=true", "extraArgs={-v}"],
    &["rbac.create=false", "serviceAccount.create=false", "config.create=false", "image.digest=sha256:ab"],
    &["extraCapabilities={SYSLOG}", "envValueFrom.TOKEN.secretKeyRef.name=s", "envValueFrom.TOKEN.secretKeyRef.key=k"],
];

/// Asks for a dry run of everything, and installs the account and the role of the plain manifests.
pub(super) fn validate(control_plane: &ControlPlane) -> Result<String> {
    let workspace = shell::workspace()?;
    let manifests = workspace.join("deploy/kubernetes/onlooker.yaml");
    let manifests = manifests.to_str().context("the workspace's path is UTF-8")?;
    let chart = workspace.join("deploy/helm/onlooker");
    let kubectl = |arguments: &[&str]| shell::read(&mut control_plane.kubectl(arguments));
    // A dry run makes no namespace for what follows.
    kubectl(&["create", "namespace", "onlooker"])?;
    kubectl(&["apply", "--validate=strict", "--dry-run=server", "--filename", manifests])?;
    kubectl(&["apply", "--validate=strict", "--filename", manifests])?;
    let lint = shell::read(control_plane.helm().arg("lint").arg(&chart))?;
    for values in VALUES {
        let rendered = template(control_plane.helm(), &chart, values)?;
        let file = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
        fs::write(file.path(), rendered)?;
        let path = file.path().to_str().context("the path is UTF-8")?;
        kubectl(&["apply", "--validate=strict", "--dry-run=server", "--filename", path])
            .with_context(|| format!("the chart with {values:?}"))?;
    }
    let failed = lint.lines().last().unwrap_or_default().trim();
    Ok(format!(
        "A server-side dry run with strict validation accepts deploy/kubernetes and the chart with {} sets of values (`helm lint`: {failed}).",
        VALUES.len()
    ))
}

fn template(mut helm: Command, chart: &std::path::Path, values: &[&str]) -> Result<String> {
    helm.args(["template", "release"]).arg(chart).args(["--namespace", "onlooker", "--kube-version", "1.36.0"]);
    for value in values {
        helm.args(["--set", value]);
    }
    shell::read(&mut helm)
}
