//! The host the agent runs on: read once.

use std::fs;

use opentelemetry::KeyValue;
use opentelemetry_semantic_conventions::attribute::{HOST_ARCH, HOST_ID, HOST_NAME, OS_TYPE};

/// What all services of this host have in common.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub(super) attributes: Vec<KeyValue>,
    /// Unlike any other boot of any host: what process ids are unique within.
    pub(super) boot: String,
}

impl Host {
    #[must_use]
    pub fn read() -> Self {
        // An agent in a container that shares the host's process ids sees the host's files through its first process.
        let id = ["/proc/1/root/etc/machine-id", "/etc/machine-id", "/var/lib/dbus/machine-id"]
            .into_iter()
            .find_map(|path| line(path).filter(|id| is_machine_id(id)));
        let boot = line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let known = [(HOST_NAME, line("/proc/sys/kernel/hostname")), (HOST_ID, id.clone())];
        let mut attributes: Vec<KeyValue> =
            known.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?))).collect();
        attributes.push(KeyValue::new(HOST_ARCH, architecture(std::env::consts::ARCH)));
        attributes.push(KeyValue::new(OS_TYPE, "linux"));
        Self { attributes, boot: format!("{}/{boot}", id.unwrap_or_default()) }
    }
}

/// machine-id(5): 32 hex digits. `uninitialized` stands there early in the first boot.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value of `host.arch` for what Rust calls the architecture.
fn architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_architecture_and_a_boot() {
        let host = Host::read();
        let arch = host.attributes.iter().find(|attribute| attribute.key.as_str() == HOST_ARCH).unwrap();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(arch.value, "amd64".into());
        }
        assert!(host.boot.len() > "/".len());
        assert!(host.attributes.iter().any(|attribute| attribute.key.as_str() == HOST_NAME));
    }

    #[test]
    fn a_machine_id_is_one_or_none() {
        assert!(is_machine_id("3d1219c7c4c5404aaa1f6d2a48adfda4"));
        assert!(!is_machine_id("uninitialized"));
    }
}
