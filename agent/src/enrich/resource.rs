//! A service instance as an OpenTelemetry Resource (semantic conventions: service, process, host, os, container,
//! telemetry, k8s).
//!
//! What a pod says replaces what the agent found, what the service states in its environment replaces that, and what a rule states
//! replaces all of it.
//!
//! `process.*` describes the topmost process of a server. Of the command line only the first word is exported, because
//! arguments contain passwords and tokens. `telemetry.distro.*` identifies the agent. `telemetry.sdk.language` is the
//! service's language, which backends show. There is no `telemetry.sdk.name`, because there is no SDK.

use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::attribute::{
    CONTAINER_ID, PROCESS_COMMAND, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_OWNER, PROCESS_PID,
    PROCESS_RUNTIME_NAME, PROCESS_RUNTIME_VERSION, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_NAMESPACE,
    TELEMETRY_DISTRO_NAME, TELEMETRY_DISTRO_VERSION, TELEMETRY_SDK_LANGUAGE,
};
use uuid::Uuid;

use super::host::Host;
use super::instance::{Instance, Member};
use crate::discover::container::Container;
use crate::discover::process::Process;
use crate::discover::select::Treatment;
use crate::kubernetes::{self, Found};

/// The namespace that the semantic conventions prescribe for a `service.instance.id` that is derived from unique data.
const INSTANCE_NAMESPACE: Uuid = Uuid::from_u128(0x4d63009a_8d0f_11ee_aad7_4c796ed8e320);
const PASSWD_BYTES: u64 = 256 << 10;

/// What is known of an instance without its pod, which may become known later.
#[derive(Debug)]
pub(super) struct Parts {
    /// What the agent found. Anything else takes precedence.
    found: Vec<KeyValue>,
    /// What the service states about itself, except about the agent.
    stated: Vec<(String, Value)>,
    /// The namespace that a rule states, which is meant for this process.
    namespace: Option<String>,
}

impl Parts {
    /// `members` are the processes of the instance, from the topmost down.
    pub(super) fn of(host: &Host, instance: &Instance, members: &[Member], treatment: &Treatment) -> Self {
        let mut parts =
            Self { found: common(host, instance), stated: Vec::new(), namespace: treatment.service_namespace.clone() };
        if let Some(top) = members.first() {
            parts.found.extend(process(top));
            let given = top.environment.attributes.iter().map(|(key, value)| (key.clone(), value.clone().into()));
            parts.stated = given.filter(|(key, _)| !key.starts_with("telemetry.")).collect();
            if top.environment.malformed {
                tracing::warn!(
                    service = %instance.name, pid = instance.top.pid,
                    "OTEL_RESOURCE_ATTRIBUTES of the process is malformed or too long; it is ignored"
                );
            }
        }
        parts
    }

    /// Those of an instance that ended while it was examined, in this container.
    pub(super) fn of_container(host: &Host, instance: &Instance, container: &Container) -> Self {
        let mut parts = Self::of_unexamined(host, instance);
        parts.found.push(KeyValue::new(CONTAINER_ID, container.id.clone()));
        parts
    }

    /// Those of an instance that ended before it could be examined.
    pub(super) fn of_unexamined(host: &Host, instance: &Instance) -> Self {
        Self { found: common(host, instance), stated: Vec::new(), namespace: None }
    }

    /// The resource of the instance with this name, in this pod.
    pub(super) fn resource(&self, name: &str, pod: Option<&Found>) -> Resource {
        let mut attributes = self.found.clone();
        let of_pod = pod.map(kubernetes::attributes).unwrap_or_default();
        set(&mut attributes, of_pod.into_iter().map(|attribute| (attribute.key.to_string(), attribute.value)));
        set(&mut attributes, self.stated.iter().cloned());
        let decided = [(SERVICE_NAME, Some(name)), (SERVICE_NAMESPACE, self.namespace.as_deref())];
        let decided = decided.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned().into())));
        set(&mut attributes, decided);
        build(attributes)
    }
}

/// The resource of an instance that ended before it could be examined.
pub(super) fn of_unexamined(host: &Host, instance: &Instance) -> Resource {
    Parts::of_unexamined(host, instance).resource(&instance.name, None)
}

fn build(attributes: Vec<KeyValue>) -> Resource {
    Resource::builder_empty().with_schema_url(attributes, SCHEMA_URL).build()
}

fn common(host: &Host, instance: &Instance) -> Vec<KeyValue> {
    // Pid and start time identify a process within one boot of one host. Pools share a topmost process and have names.
    let unique = format!("{}/{}/{}/{}", host.boot, instance.top.pid, instance.top.started, instance.name);
    let id = Uuid::new_v5(&INSTANCE_NAMESPACE, unique.as_bytes());
    let mut attributes = vec![
        KeyValue::new(SERVICE_NAME, instance.name.to_string()),
        KeyValue::new(SERVICE_INSTANCE_ID, id.to_string()),
        KeyValue::new(PROCESS_PID, i64::from(instance.top.pid)),
        KeyValue::new(TELEMETRY_DISTRO_NAME, "onlooker"),
        KeyValue::new(TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    attributes.extend(host.attributes.iter().cloned());
    attributes
}

fn process(member: &Member) -> Vec<KeyValue> {
    let path = Some(member.executable.to_string_lossy().into_owned()).filter(|path| !path.is_empty());
    let name = member.executable.file_name().map(|name| name.to_string_lossy().into_owned());
    let runtime = member.program.runtime;
    let texts = [
        (PROCESS_COMMAND, member.command.clone()),
        (PROCESS_EXECUTABLE_NAME, name),
        (PROCESS_EXECUTABLE_PATH, path),
        (PROCESS_OWNER, owner(&member.process)),
        (PROCESS_RUNTIME_NAME, runtime.runtime_name.map(str::to_owned)),
        (PROCESS_RUNTIME_VERSION, member.program.version.as_ref().map(ToString::to_string)),
        (TELEMETRY_SDK_LANGUAGE, runtime.sdk_language.map(str::to_owned)),
        (CONTAINER_ID, member.container().map(|container| container.id.clone())),
    ];
    texts.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?))).collect()
}

/// The name of the user, from /etc/passwd in the process's root.
fn owner(process: &Process) -> Option<String> {
    let uid = process.uid()?;
    let passwd = process.read_inside("/etc/passwd".as_ref(), PASSWD_BYTES)?;
    user(&String::from_utf8_lossy(&passwd), uid)
}

/// passwd(5): `name:password:uid:...`.
fn user(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Adds attributes, replacing those with the same key.
fn set(attributes: &mut Vec<KeyValue>, given: impl Iterator<Item = (String, Value)>) {
    for (key, value) in given {
        let key = Key::from(key);
        attributes.retain(|attribute| attribute.key != key);
        attributes.push(KeyValue::new(key, value));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::discover::process::Identity;

    #[rstest]
    #[case(0, Some("root"))]
    #[case(33, Some("www-data"))]
    #[case(4711, None)]
    fn a_user_is_found_in_passwd(#[case] uid: u32, #[case] name: Option<&str>) {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnonsense\n:x:4711::\nwww-data:x:33:33::/var/www:/bin/sh\n";
        assert_eq!(user(passwd, uid).as_deref(), name);
    }

    #[test]
    fn instance_ids_are_stable_and_unique() {
        let host = Host { attributes: Vec::new(), boot: "host/boot".to_owned(), ..Host::default() };
        let id = |name: &str, pid, started| {
            let instance = Instance { name: name.into(), top: Identity { pid, started } };
            of_unexamined(&host, &instance).get(&Key::from(SERVICE_INSTANCE_ID)).unwrap().to_string()
        };
        let shop = id("shop", 7, 100);
        assert_eq!(shop, id("shop", 7, 100));
        assert_eq!(Uuid::parse_str(&shop).unwrap().get_version_num(), 5);
        for other in [id("shop", 7, 101), id("shop", 8, 100), id("depot", 7, 100)] {
            assert_ne!(shop, other);
        }
    }
}
