//! The host that the agent runs on. It is read once.

use std::fs;
use std::sync::{Arc, PoisonError, RwLock};

use onlooker_engine::model::reporting::Reporting;
use opentelemetry::{Key, KeyValue};
use opentelemetry_semantic_conventions::attribute::{HOST_ARCH, HOST_ID, HOST_NAME, OS_TYPE};

use super::environment::Environment;

/// How the keys of attributes begin that describe one service or process. In the environment of the agent they describe
/// the agent.
const OF_ONE_PROCESS: [&str; 3] = ["service.", "process.", "telemetry."];

/// What all services of the host have in common.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub(super) attributes: Vec<KeyValue>,
    /// Identifies this boot of this host. Process identities are unique within it.
    pub(super) boot: String,
    /// What is reported of processes to which no rule applies. It changes when the configuration is read again.
    pub(super) reporting: Arc<RwLock<Arc<Reporting>>>,
}

impl Host {
    /// Reads the host, and adds attributes such as `deployment.environment.name`, which belong to every service of the host.
    /// They are given as `key=value,...`, the format of `OTEL_RESOURCE_ATTRIBUTES`, and as such. The latter take precedence.
    #[must_use]
    pub fn read(list: &str, attributes: Vec<KeyValue>) -> Self {
        let mut host = Self::detect();
        if !host.add(list) {
            tracing::warn!("the resource attributes of the agent are malformed or too long; they are ignored");
        }
        attributes.into_iter().for_each(|attribute| host.set(attribute));
        host
    }

    /// What is reported of processes to which no rule applies.
    pub(super) fn reporting(&self) -> Arc<Reporting> {
        Arc::clone(&self.reporting.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn report(&self, reporting: Arc<Reporting>) {
        *self.reporting.write().unwrap_or_else(PoisonError::into_inner) = reporting;
    }

    /// Adds attributes given as `key=value,...`, in place of detected ones. False if they are malformed.
    fn add(&mut self, given: &str) -> bool {
        let environment = Environment::parse(format!("OTEL_RESOURCE_ATTRIBUTES={given}").as_bytes());
        for (key, value) in environment.attributes {
            self.set(KeyValue::new(Key::from(key), value));
        }
        !environment.malformed
    }

    fn set(&mut self, given: KeyValue) {
        if !OF_ONE_PROCESS.iter().any(|prefix| given.key.as_str().starts_with(prefix)) {
            self.attributes.retain(|attribute| attribute.key != given.key);
            self.attributes.push(given);
        }
    }

    fn detect() -> Self {
        // In a container that shares the host's pid namespace, the host's files are reachable through process 1.
        let id = ["/proc/1/root/etc/machine-id", "/etc/machine-id", "/var/lib/dbus/machine-id"]
            .into_iter()
            .find_map(|path| line(path).filter(|id| is_machine_id(id)));
        let boot = line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let known = [(HOST_NAME, name()), (HOST_ID, id.clone())];
        let mut attributes: Vec<KeyValue> =
            known.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?))).collect();
        attributes.push(KeyValue::new(HOST_ARCH, architecture(std::env::consts::ARCH)));
        attributes.push(KeyValue::new(OS_TYPE, "linux"));
        Self { attributes, boot: format!("{}/{boot}", id.unwrap_or_default()), ..Self::default() }
    }
}

/// The name of the host. A container has a name of its own, and one that shares the host's pid namespace reaches the host's files.
fn name() -> Option<String> {
    let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/uts")).ok();
    let is_containers = namespace("1").is_some_and(|hosts| Some(hosts) != namespace("self"));
    line(if is_containers { "/proc/1/root/etc/hostname" } else { "/proc/sys/kernel/hostname" })
}

/// machine-id(5): 32 hex digits. Early in the first boot the file contains `uninitialized`.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value of `host.arch` for Rust's name of an architecture.
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
        let host = Host::read("", vec![KeyValue::new("shop.size", 7)]);
        assert!(host.attributes.contains(&KeyValue::new("shop.size", 7)));
        let arch = host.attributes.iter().find(|attribute| attribute.key.as_str() == HOST_ARCH).unwrap();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(arch.value, "amd64".into());
        }
        assert!(host.boot.len() > "/".len());
        assert!(host.attributes.iter().any(|attribute| attribute.key.as_str() == HOST_NAME));
    }

    /// Issue 7, fault 17.
    #[test]
    fn resource_attributes_of_the_agent_are_added_for_every_service() {
        let mut host = Host { attributes: vec![KeyValue::new(HOST_NAME, "detected")], ..Host::default() };
        assert!(host.add("deployment.environment.name=test,service.name=agent,process.pid=1,host.name=given"));
        let expected = [KeyValue::new("deployment.environment.name", "test"), KeyValue::new(HOST_NAME, "given")];
        assert_eq!(host.attributes, expected);
        assert!(!host.add("malformed"));
        assert_eq!(host.attributes, expected);
        assert!(host.add(""));
    }

    #[test]
    fn only_hex_digits_are_a_machine_id() {
        assert!(is_machine_id("3d1219c7c4c5404aaa1f6d2a48adfda4"));
        assert!(!is_machine_id("uninitialized"));
    }
}
