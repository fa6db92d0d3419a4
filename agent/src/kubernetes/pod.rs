//! What is kept of a pod.

use std::collections::BTreeMap;

use super::observed::{ContainerSpec, ContainerStatus, ObservedPod};
use super::owner::{Owner, owners};

/// Labels and annotations kept of a pod, of each kind.
const PAIRS_KEPT: usize = 64;
/// The longest value of an annotation that is kept. `kubectl` keeps whole manifests in them.
const ANNOTATION_BYTES: usize = 1024;
/// Containers kept of a pod.
const CONTAINERS_KEPT: usize = 64;
/// Ids kept of a pod's containers, with those of former ones: spans may still come from them.
const IDS_KEPT: usize = 128;
/// How the annotations begin that are resource attributes.
pub(super) const RESOURCE_ANNOTATION: &str = "resource.opentelemetry.io/";
/// The annotations with the hash of a static pod's manifest. The kubelet names the pod's cgroup after it.
const STATIC_HASHES: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];

/// A pod of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub node: Option<String>,
    /// When it was created, in RFC 3339.
    pub created: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owners: Vec<Owner>,
    /// Those that run, and those that run before or are added later.
    pub containers: Vec<PodContainer>,
    /// The ids of containers, each with the index of the container.
    pub(super) ids: Vec<(String, usize)>,
}

/// A container of a pod, whatever its id is at the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodContainer {
    pub name: String,
    pub image: Option<String>,
}

impl Pod {
    /// None for what is no pod: it has no uid.
    pub(super) fn of(observed: ObservedPod) -> Option<Self> {
        let ObservedPod { metadata, spec, status } = observed;
        let uid = metadata.uid.filter(|uid| !uid.is_empty())?;
        let labels: BTreeMap<_, _> = metadata.labels.unwrap_or_default().into_iter().take(PAIRS_KEPT).collect();
        let created = metadata.creation_timestamp.as_ref().map(|created| created.0.as_second());
        let owners = owners(&metadata.owner_references.unwrap_or_default(), &labels, created);
        let containers: Vec<PodContainer> = [spec.containers, spec.init_containers, spec.ephemeral_containers]
            .into_iter()
            .flatten()
            .take(CONTAINERS_KEPT)
            .map(|ContainerSpec { name, image }| PodContainer { name, image })
            .collect();
        let statuses = [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        let ids = statuses.iter().flatten().flat_map(|status| ids(status, &containers)).take(IDS_KEPT).collect();
        Some(Self {
            uid,
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            node: spec.node_name,
            created: metadata.creation_timestamp.map(|created| created.0.to_string()),
            labels,
            annotations: annotations(metadata.annotations.unwrap_or_default()),
            owners,
            containers,
            ids,
        })
    }

    /// Whether the two differ in the ids of containers at most.
    pub(super) fn is_described_as(&self, other: &Self) -> bool {
        let described = |pod: &Self| Self { ids: Vec::new(), ..pod.clone() };
        self.ids == other.ids && self == other || described(self) == described(other)
    }

    /// Adds the ids of containers that the pod had before.
    pub(super) fn remember_ids(&mut self, before: &Self) {
        for (id, container) in &before.ids {
            let name = before.containers.get(*container).map(|container| container.name.as_str());
            let now = self.containers.iter().position(|container| Some(container.name.as_str()) == name);
            if let Some(now) = now
                && self.ids.len() < IDS_KEPT
                && !self.ids.iter().any(|(known, _)| known == id)
            {
                self.ids.push((id.clone(), now));
            }
        }
    }

    /// The names that the pod's cgroup may have: its uid, or the hash of a static pod.
    pub(super) fn cgroup_names(&self) -> impl Iterator<Item = &str> {
        let hashes = STATIC_HASHES.iter().filter_map(|name| self.annotations.get(*name));
        std::iter::once(&self.uid).chain(hashes).map(String::as_str)
    }
}

/// The ids of a container, without the name of the runtime.
fn ids(status: &ContainerStatus, containers: &[PodContainer]) -> Vec<(String, usize)> {
    let Some(index) = containers.iter().position(|container| container.name == status.name) else { return Vec::new() };
    let former = status.last_state.terminated.as_ref().and_then(|terminated| terminated.container_id.as_ref());
    let ids = status.container_id.iter().chain(former).map(|id| id.rsplit("://").next().unwrap_or(id));
    ids.filter(|id| !id.is_empty()).map(|id| (id.to_owned(), index)).collect()
}

/// The annotations that are kept. Those that are resource attributes come first.
fn annotations(all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_short = |value: &str| value.len() <= ANNOTATION_BYTES;
    let (mut kept, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|(_, value)| is_short(value))
        .partition(|(name, _)| name.starts_with(RESOURCE_ANNOTATION) || STATIC_HASHES.contains(&name.as_str()));
    kept.extend(others);
    kept.into_iter().take(PAIRS_KEPT).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A pod as the API server describes it.
    pub(crate) fn pod(json: serde_json::Value) -> Pod {
        Pod::of(serde_json::from_value(json).unwrap()).unwrap()
    }

    /// `shop-0` in the namespace `eu`, with one container for each name. Ids are known if there are any.
    pub(crate) fn shop(uid: &str, containers: &[(&str, Option<&str>)]) -> serde_json::Value {
        let specs: Vec<_> =
            containers.iter().map(|(name, _)| serde_json::json!({"name": name, "image": "shop/api:v2"})).collect();
        let statuses: Vec<_> = containers
            .iter()
            .filter_map(|(name, id)| {
                Some(serde_json::json!({"name": name, "containerID": format!("containerd://{}", (*id)?)}))
            })
            .collect();
        serde_json::json!({
            "metadata": {
                "uid": uid, "name": "shop-7d4b9c6f5d-x2x4z", "namespace": "eu", "creationTimestamp": "2026-11-30T12:00:00Z",
                "labels": {"app": "shop", "pod-template-hash": "7d4b9c6f5d"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d4b9c6f5d", "uid": "rs-1"}],
            },
            "spec": {"nodeName": "node-1", "containers": specs},
            "status": {"containerStatuses": statuses},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{pod, shop};
    use super::*;

    #[test]
    fn a_pod_is_reduced_to_what_is_used() {
        let found = pod(shop("u-1", &[("api", Some("aa")), ("proxy", None)]));
        assert_eq!((found.name.as_str(), found.namespace.as_str()), ("shop-7d4b9c6f5d-x2x4z", "eu"));
        assert_eq!((found.node.as_deref(), found.created.as_deref()), (Some("node-1"), Some("2026-11-30T12:00:00Z")));
        assert_eq!(
            found.owners.iter().map(|owner| owner.name.as_str()).collect::<Vec<_>>(),
            ["shop", "shop-7d4b9c6f5d"]
        );
        assert_eq!(found.ids, [("aa".to_owned(), 0)]);
    }

    #[test]
    fn a_restarted_container_keeps_its_former_id() {
        let before = pod(shop("u-1", &[("api", Some("aa")), ("proxy", Some("bb"))]));
        let mut after = pod(shop("u-1", &[("api", Some("cc")), ("proxy", Some("bb"))]));
        after.remember_ids(&before);
        assert_eq!(after.ids, [("cc".to_owned(), 0), ("bb".to_owned(), 1), ("aa".to_owned(), 0)]);
        let mut restarted = shop("u-1", &[("api", Some("cc"))]);
        restarted["status"]["containerStatuses"][0]["lastState"] =
            serde_json::json!({"terminated": {"containerID": "containerd://aa"}});
        assert_eq!(pod(restarted).ids, [("cc".to_owned(), 0), ("aa".to_owned(), 0)]);
    }

    #[test]
    fn a_static_pod_has_two_names() {
        let mut static_pod = shop("u-1", &[]);
        static_pod["metadata"]["annotations"] = serde_json::json!({"kubernetes.io/config.hash": "h-1"});
        assert_eq!(pod(static_pod).cgroup_names().collect::<Vec<_>>(), ["u-1", "h-1"]);
    }

    #[test]
    fn what_is_kept_of_a_pod_is_bounded() {
        let mut large = shop("u-1", &[]);
        let many = |value: &str| (0..1000).map(|index| (format!("a{index}"), value.into())).collect();
        large["metadata"]["labels"] = serde_json::Value::Object(many("x"));
        let mut annotations: serde_json::Map<_, _> = many("x");
        annotations.insert("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "x".repeat(5000).into());
        annotations.insert("resource.opentelemetry.io/service.name".to_owned(), "checkout".into());
        large["metadata"]["annotations"] = serde_json::Value::Object(annotations);
        large["spec"]["containers"] = (0..1000).map(|index| serde_json::json!({"name": format!("c{index}")})).collect();
        large["status"]["containerStatuses"] = (0..1000)
            .map(|index| serde_json::json!({"name": "c1", "containerID": format!("containerd://{index}")}))
            .collect();
        let kept = pod(large);
        assert_eq!((kept.labels.len(), kept.annotations.len()), (PAIRS_KEPT, PAIRS_KEPT));
        assert_eq!((kept.containers.len(), kept.ids.len()), (CONTAINERS_KEPT, IDS_KEPT));
        assert!(kept.annotations.contains_key("resource.opentelemetry.io/service.name"));
    }
}
