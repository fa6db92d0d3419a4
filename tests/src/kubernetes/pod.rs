//! Pods, as the API server describes them.

use serde_json::{Value, json};

/// What a pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    Deployment,
    StatefulSet,
    DaemonSet,
    CronJob,
    Nothing,
}

impl Owned {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::CronJob, Self::Nothing];
}

/// A pod with its containers.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub owned: Owned,
    /// The name of the owner: what a person called it.
    pub app: String,
    minute: u64,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    /// The names and the ids of its containers.
    pub containers: Vec<(String, String)>,
}

const HASH: &str = "7d4b9c6f5d";
/// When the API server of the tests says that pods were created, and the same in minutes since 1970, as Jobs of a CronJob are called.
const CREATED: &str = "2026-11-30T12:00:00Z";
const SCHEDULED: u64 = 29_934_000;

impl PodSpec {
    /// The pod with this number, with containers of these names. Uids and ids follow from the number.
    #[must_use]
    pub fn numbered(number: u32, owned: Owned, containers: &[&str]) -> Self {
        Self::scheduled(number, owned, containers, SCHEDULED)
    }

    /// The same. If a CronJob owns it, its Job was scheduled for this minute since 1970.
    #[must_use]
    pub fn scheduled(number: u32, owned: Owned, containers: &[&str], minute: u64) -> Self {
        let app = format!("app-{number}");
        let name = match owned {
            Owned::Deployment => format!("{app}-{HASH}-{number:05x}"),
            Owned::StatefulSet => format!("{app}-0"),
            Owned::CronJob => format!("{app}-{minute}-{number:05x}"),
            Owned::DaemonSet | Owned::Nothing => format!("{app}-{number:05x}"),
        };
        let id = |index: usize| format!("{number:032x}{index:032x}");
        Self {
            uid: format!("{number:08x}-1c5f-4a3e-a0a5-3f1a7f0f7f7f"),
            namespace: format!("team-{}", number % 3),
            name,
            owned,
            app,
            minute,
            labels: Vec::new(),
            annotations: Vec::new(),
            containers: containers.iter().enumerate().map(|(index, name)| ((*name).to_owned(), id(index))).collect(),
        }
    }

    /// The attribute that names its owner, and the name.
    #[must_use]
    pub fn owner_attribute(&self) -> Option<(&'static str, &str)> {
        let key = match self.owned {
            Owned::Deployment => "k8s.deployment.name",
            Owned::StatefulSet => "k8s.statefulset.name",
            Owned::DaemonSet => "k8s.daemonset.name",
            Owned::CronJob => "k8s.cronjob.name",
            Owned::Nothing => return None,
        };
        Some((key, &self.app))
    }

    /// The name of its services, if nothing else states one.
    #[must_use]
    pub fn service_name(&self) -> &str {
        self.owner_attribute().map_or(&self.name, |(_, name)| name)
    }

    /// The object. `are_started`: the kubelet has reported the ids of the containers.
    #[must_use]
    pub fn object(&self, node: &str, are_started: bool) -> Value {
        let owner = match self.owned {
            Owned::Deployment => Some(("apps/v1", "ReplicaSet", format!("{}-{HASH}", self.app))),
            Owned::StatefulSet => Some(("apps/v1", "StatefulSet", self.app.clone())),
            Owned::DaemonSet => Some(("apps/v1", "DaemonSet", self.app.clone())),
            Owned::CronJob => Some(("batch/v1", "Job", format!("{}-{}", self.app, self.minute))),
            Owned::Nothing => None,
        };
        let mut labels: serde_json::Map<_, _> = pairs(&self.labels);
        if self.owned == Owned::Deployment {
            labels.insert("pod-template-hash".to_owned(), HASH.into());
        }
        let owners: Vec<_> = owner
            .into_iter()
            .map(|(version, kind, name)| {
                json!({"apiVersion": version, "kind": kind, "name": name, "uid": format!("owner-{}", self.uid), "controller": true})
            })
            .collect();
        let specs: Vec<_> = self
            .containers
            .iter()
            .map(|(name, _)| json!({"name": name, "image": format!("registry.example:5000/{name}:v2")}))
            .collect();
        let started = self.containers.iter().filter(|_| are_started);
        let statuses: Vec<_> = started
            .map(|(name, id)| {
                json!({"name": name, "containerID": format!("containerd://{id}"), "ready": true, "restartCount": 0,
                       "image": "", "imageID": "", "state": {"running": {"startedAt": "2026-11-30T12:00:01Z"}}})
            })
            .collect();
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": labels,
                "annotations": pairs(&self.annotations), "ownerReferences": owners,
                "creationTimestamp": CREATED,
                "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsV1": {}}],
            },
            "spec": {"nodeName": node, "containers": specs, "restartPolicy": "Always"},
            "status": {"phase": if are_started { "Running" } else { "Pending" }, "containerStatuses": statuses},
        })
    }
}

fn pairs(pairs: &[(String, String)]) -> serde_json::Map<String, Value> {
    pairs.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
}
