//! What a pod says about the resource of a service.
//!
//! The order in which a service is named is that of the semantic conventions ("Specify resource attributes using Kubernetes
//! annotations"), which the Collector's `k8s_attributes` processor follows too. What a process says in its environment comes before all of
//! it: see `enrich`.

use opentelemetry::{Array, KeyValue, Value};
use opentelemetry_semantic_conventions::attribute::{
    CONTAINER_IMAGE_NAME, CONTAINER_IMAGE_TAGS, K8S_CONTAINER_NAME, K8S_NAMESPACE_NAME, K8S_NODE_NAME, K8S_POD_NAME,
    K8S_POD_UID, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION,
};

use super::image::Image;
use super::pod::{Pod, PodContainer, RESOURCE_ANNOTATION};
use super::pods::Found;

/// It is not in the semantic conventions. The Collector sends it.
const K8S_POD_START_TIME: &str = "k8s.pod.start_time";
/// Labels that name a service, in their order.
const NAMES: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/name"];
const VERSION: &str = "app.kubernetes.io/version";

impl Found {
    fn its_container(&self) -> Option<&PodContainer> {
        self.pod.containers.get(self.container?)
    }
}

/// The attributes of the pod and its container, with `service.*`.
#[must_use]
pub fn attributes(found: &Found) -> Vec<KeyValue> {
    let pod = &*found.pod;
    let container = found.its_container();
    let image = container.and_then(|container| Image::parse(container.image.as_deref()?));
    let texts = [
        (K8S_NAMESPACE_NAME, Some(pod.namespace.clone())),
        (K8S_POD_NAME, Some(pod.name.clone())),
        (K8S_POD_UID, Some(pod.uid.clone())),
        (K8S_POD_START_TIME, pod.created.clone()),
        (K8S_NODE_NAME, pod.node.clone()),
        (K8S_CONTAINER_NAME, container.map(|container| container.name.clone())),
        (CONTAINER_IMAGE_NAME, image.map(|image| image.name.to_owned())),
        (SERVICE_NAME, service_name(found)),
        (SERVICE_NAMESPACE, Some(pod.namespace.clone())),
        (SERVICE_VERSION, pod.labels.get(VERSION).cloned().or_else(|| image?.version())),
        (SERVICE_INSTANCE_ID, container.map(|container| [&*pod.namespace, &pod.name, &container.name].join("."))),
    ];
    let given = texts.into_iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
    let mut attributes: Vec<_> = given.map(|(key, value)| KeyValue::new(key, value)).collect();
    if let Some(tag) = image.and_then(Image::effective_tag) {
        attributes.push(KeyValue::new(CONTAINER_IMAGE_TAGS, Value::Array(Array::String(vec![tag.to_owned().into()]))));
    }
    for owner in &pod.owners {
        let row = owner.kind.row();
        attributes.push(KeyValue::new(row.name_attribute, owner.name.clone()));
        attributes.extend(owner.uid.clone().map(|uid| KeyValue::new(row.uid_attribute, uid)));
    }
    for (key, value) in annotated(pod) {
        attributes.retain(|attribute| attribute.key.as_str() != key);
        attributes.push(KeyValue::new(key.to_owned(), value.to_owned()));
    }
    attributes
}

/// The name of the service. None only if the pod has no name.
#[must_use]
pub fn service_name(found: &Found) -> Option<String> {
    let pod = &*found.pod;
    let annotated = annotated(pod).find(|(key, _)| *key == SERVICE_NAME).map(|(_, value)| value);
    let labelled = || NAMES.iter().find_map(|name| pod.labels.get(*name)).map(String::as_str);
    let owner = || pod.owners.iter().find(|owner| owner.kind.row().names_services).map(|owner| owner.name.as_str());
    let container = || found.its_container().map(|container| container.name.as_str());
    let given = |name: &&str| !name.is_empty();
    let name = annotated.filter(given).or_else(|| labelled().filter(given)).or_else(|| owner().filter(given));
    name.or_else(|| Some(pod.name.as_str()).filter(given)).or_else(container).map(str::to_owned)
}

/// The attributes that annotations state. The agent's own are not theirs to state.
fn annotated(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let keys =
        pod.annotations.iter().filter_map(|(name, value)| Some((name.strip_prefix(RESOURCE_ANNOTATION)?, value)));
    keys.filter(|(key, _)| !key.is_empty() && !key.starts_with("telemetry.")).map(|(key, value)| (key, value.as_str()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value as Json, json};

    use super::super::pod::testing::{pod, shop};
    use super::*;

    fn found(json: Json, container: Option<usize>) -> Found {
        Found { pod: Arc::new(pod(json)), container, revision: 1 }
    }

    fn shown(found: &Found) -> Vec<(String, String)> {
        let mut shown: Vec<_> = attributes(found).iter().map(|a| (a.key.to_string(), a.value.to_string())).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_pod_has_the_attributes_that_the_collector_adds() {
        let mut described = shop("u-1", &[("api", Some("aa")), ("proxy", Some("bb"))]);
        described["spec"]["containers"][0]["image"] = "registry.example:5000/shop/api:v2@sha256:ab12".into();
        let expected = [
            ("container.image.name", "registry.example:5000/shop/api"),
            ("container.image.tags", "[\"v2\"]"),
            ("k8s.container.name", "api"),
            ("k8s.deployment.name", "shop"),
            ("k8s.namespace.name", "eu"),
            ("k8s.node.name", "node-1"),
            ("k8s.pod.name", "shop-7d4b9c6f5d-x2x4z"),
            ("k8s.pod.start_time", "2026-11-30T12:00:00Z"),
            ("k8s.pod.uid", "u-1"),
            ("k8s.replicaset.name", "shop-7d4b9c6f5d"),
            ("k8s.replicaset.uid", "rs-1"),
            ("service.instance.id", "eu.shop-7d4b9c6f5d-x2x4z.api"),
            ("service.name", "shop"),
            ("service.namespace", "eu"),
            ("service.version", "v2@sha256:ab12"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(shown(&found(described, Some(0))), expected);
    }

    #[test]
    fn an_unknown_container_leaves_out_what_depends_on_it() {
        let shown = shown(&found(shop("u-1", &[("api", None), ("proxy", None)]), None));
        let keys: Vec<_> = shown.iter().map(|(key, _)| key.as_str()).collect();
        for absent in ["k8s.container.name", "container.image.name", "service.instance.id", "service.version"] {
            assert!(!keys.contains(&absent), "{absent}");
        }
        assert!(keys.contains(&"service.name"));
    }

    /// The order of docs/non-normative/k8s-attributes.md, one step after the other: each case lacks what the one before had.
    #[rstest]
    #[case::annotation(json!({"resource.opentelemetry.io/service.name": "annotated"}), json!({"app.kubernetes.io/instance": "instance"}), Some("ReplicaSet"), "annotated")]
    #[case::instance(json!({}), json!({"app.kubernetes.io/instance": "instance", "app.kubernetes.io/name": "name"}), Some("ReplicaSet"), "instance")]
    #[case::name(json!({}), json!({"app.kubernetes.io/name": "name"}), Some("ReplicaSet"), "name")]
    #[case::deployment(json!({}), json!({"pod-template-hash": "29934000"}), Some("ReplicaSet"), "owner")]
    #[case::replica_set(json!({}), json!({}), Some("ReplicaSet"), "owner-29934000")]
    #[case::stateful_set(json!({}), json!({}), Some("StatefulSet"), "owner-29934000")]
    #[case::daemon_set(json!({}), json!({}), Some("DaemonSet"), "owner-29934000")]
    #[case::cron_job(json!({}), json!({}), Some("Job"), "owner")]
    #[case::other_owner(json!({}), json!({}), Some("Rollout"), "shop-7d4b9c6f5d-x2x4z")]
    #[case::pod(json!({}), json!({}), None, "shop-7d4b9c6f5d-x2x4z")]
    fn a_service_is_named_in_the_order_of_the_conventions(
        #[case] annotations: Json,
        #[case] labels: Json,
        #[case] owner: Option<&str>,
        #[case] expected: &str,
    ) {
        let mut described = shop("u-1", &[("api", None)]);
        described["metadata"]["annotations"] = annotations;
        described["metadata"]["labels"] = labels;
        described["metadata"]["ownerReferences"] = match owner {
            Some(kind) => json!([{"apiVersion": "v1", "kind": kind, "name": "owner-29934000", "uid": "o-1"}]),
            None => json!([]),
        };
        assert_eq!(service_name(&found(described, Some(0))).as_deref(), Some(expected));
    }

    #[test]
    fn annotations_state_any_attribute_but_the_agents() {
        let mut described = shop("u-1", &[("api", None)]);
        described["metadata"]["labels"]["app.kubernetes.io/version"] = "7".into();
        described["metadata"]["annotations"] = json!({
            "resource.opentelemetry.io/service.namespace": "shops",
            "resource.opentelemetry.io/team": "blue",
            "resource.opentelemetry.io/telemetry.distro.name": "forged",
            "unrelated": "x",
        });
        let shown = shown(&found(described, Some(0)));
        let value = |key: &str| {
            let values: Vec<_> = shown.iter().filter(|(k, _)| k == key).map(|(_, value)| value.as_str()).collect();
            assert!(values.len() < 2, "{key} {values:?}");
            values.first().copied()
        };
        assert_eq!((value("service.namespace"), value("team")), (Some("shops"), Some("blue")));
        assert_eq!(
            (value("service.version"), value("telemetry.distro.name"), value("unrelated")),
            (Some("7"), None, None)
        );
    }
}
