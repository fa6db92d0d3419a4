//! The API server accepts the manifests and the chart, field by field.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::control_plane::ControlPlane;
use crate::manifests::{VALUES, chart, plain, template};
use crate::setup::manifests::helm;
use crate::shell;

/// The release of the API server.
const RELEASE: &str = "1.36.0";

/// Asks for a dry run of everything, and installs the account and the role of the plain manifests.
pub(super) fn validate(control_plane: &ControlPlane) -> Result<String> {
    let plain = plain()?;
    let plain = plain.to_str().context("the workspace's path is UTF-8")?;
    let kubectl = |arguments: &[&str]| shell::read(&mut control_plane.kubectl(arguments));
    // A dry run makes no namespace for what follows.
    kubectl(&["create", "namespace", "onlooker"])?;
    kubectl(&["apply", "--validate=strict", "--dry-run=server", "--filename", plain])?;
    kubectl(&["apply", "--validate=strict", "--filename", plain])?;
    let lint = shell::read(Command::new(helm()?).arg("lint").arg(chart()?))?;
    for values in VALUES {
        let rendered = template(values, RELEASE)?;
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
