//! What the manifests and the chart are checked with: Helm, kubeconform, and the schemas of Kubernetes.
//!
//! kubeconform downloads schemas by itself, from a place that moves on with them. These are of a package with a version, and so they stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;
use serde_json::Value;

use super::{Part, made, python};
use crate::shell;

pub(crate) const MANIFESTS: Part = Part {
    name: "manifests",
    about: "Helm, kubeconform and the schemas of Kubernetes, for `cargo xtask manifests` (on demand)",
    by_default: false,
    make_ready,
};

const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
const KUBECONFORM: &str = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0";
/// A package of PyPI.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";

/// The releases of Kubernetes that manifests are checked for: the oldest that they are for, and that of `cargo xtask cluster`.
pub(crate) const RELEASES: [&str; 2] = ["1.30.0", "1.36.0"];

pub(crate) fn helm() -> Result<PathBuf> {
    Ok(dir(&Cache::locate()?).join("helm"))
}

pub(crate) fn kubeconform() -> Result<PathBuf> {
    Ok(dir(&Cache::locate()?).join("kubeconform"))
}

/// Where the schema of a kind is, as kubeconform wants it. The schemas are the strict ones, which allow no unknown fields.
pub(crate) fn schema_location() -> Result<String> {
    let schemas = schemas(&dir(&Cache::locate()?));
    Ok(format!(
        "{}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        schemas.display()
    ))
}

fn dir(cache: &Cache) -> PathBuf {
    cache.dir().join("manifests")
}

fn schemas(dir: &Path) -> PathBuf {
    dir.join("schemas")
}

fn make_ready(cache: &Cache) -> Result<()> {
    find_program("go").context("Go is missing: install it from https://go.dev/dl")?;
    let dir = dir(cache);
    let made = made::once(&dir, &format!("{HELM} {KUBECONFORM} {SCHEMAS} {RELEASES:?}"), || {
        shell::say(&format!("manifests: building Helm and kubeconform into {}", dir.display()));
        // The modules and compiled packages are not needed later.
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        for module in [HELM, KUBECONFORM] {
            let mut go = Command::new("go");
            go.args(["install", "-trimpath", "-ldflags", "-s -w", module]).current_dir(scratch.path());
            go.env("GOCACHE", scratch.path().join("cache")).env("GOMODCACHE", scratch.path().join("modules"));
            // Folders of modules that are read-only could not be removed.
            shell::run(go.env("GOFLAGS", "-modcacherw").env("GOBIN", &dir))?;
        }
        install_schemas(scratch.path(), &schemas(&dir))
    })?;
    if !made {
        shell::say("manifests: (already there)");
    }
    Ok(())
}

fn install_schemas(scratch: &Path, schemas: &Path) -> Result<()> {
    let package = scratch.join("package");
    let mut pip = Command::new(python::interpreter()?);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    shell::run(pip.args(["--no-deps", "--no-compile", "--target"]).arg(&package).arg(SCHEMAS))?;
    for release in RELEASES {
        let of_package = package.join(format!("kubernetes_validate/kubernetes-json-schema/v{release}-local-strict"));
        let to = schemas.join(format!("v{release}"));
        fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
        let entries = fs::read_dir(&of_package).with_context(|| format!("{SCHEMAS} has no schemas of {release}"))?;
        for entry in entries {
            let file = entry.with_context(|| format!("cannot read {}", of_package.display()))?.path();
            let mut schema =
                serde_json::from_str(&shell::file(&file)?).with_context(|| format!("{} is no JSON", file.display()))?;
            make_local(&mut schema);
            let copy = to.join(file.file_name().context("an entry of a folder has a name")?);
            fs::write(&copy, schema.to_string()).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    Ok(())
}

/// Makes references to definitions relative to the file, not to the address that the schema has as its id.
fn make_local(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.retain(|name, value| name != "$id" || !value.is_string());
            for (name, value) in members {
                match value {
                    Value::String(target) if name == "$ref" => *target = target.trim_start_matches("/api/").to_owned(),
                    _ => make_local(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_local),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::make_local;

    #[test]
    fn references_are_relative_to_the_file() {
        let mut schema = json!({
            "$id": "https://kubernetes.io/api/pod/v1",
            "properties": {
                "spec": {"$ref": "/api/_definitions.json#/$defs/PodSpec"},
                // A property may have any name.
                "$id": {"type": "string"},
                "$ref": {"items": [{"$ref": "#/$defs/Own"}]},
            },
        });
        make_local(&mut schema);
        let expected = json!({
            "properties": {
                "spec": {"$ref": "_definitions.json#/$defs/PodSpec"},
                "$id": {"type": "string"},
                "$ref": {"items": [{"$ref": "#/$defs/Own"}]},
            },
        });
        assert_eq!(schema, expected);
    }
}
