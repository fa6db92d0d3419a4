//! What owns a pod. Owners above the first are found by names, so that nothing but pods has to be watched.
//!
//! A Deployment owns ReplicaSets that are called `DEPLOYMENT-HASH`, and their pods have the hash as a label. A CronJob owns Jobs that are
//! called `CRONJOB-MINUTES`, with the minute that they were scheduled for. People end names of Jobs with dates, so a number counts only
//! if it is near the time at which the pod was created.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// How far the minute that a Job was scheduled for may be from the creation of its pod. A retry may come hours later. The Collector has the
/// same limit.
const MINUTES_APART: i64 = 24 * 60;

/// The label of pods that a Deployment's ReplicaSet made.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// An object that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub kind: OwnerKind,
    pub name: String,
    /// Unknown for owners above the first.
    pub uid: Option<String>,
}

/// The kinds that the semantic conventions know, in the order in which they name a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    CronJob,
    Job,
    ReplicationController,
}

/// A kind of owner: its name, and its attributes.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: OwnerKind,
    pub(super) name: &'static str,
    pub(super) name_attribute: &'static str,
    pub(super) uid_attribute: &'static str,
    /// Whether a service may be called after it.
    pub(super) names_services: bool,
}

macro_rules! rows {
    ($($kind:ident, $attribute:literal, $names_services:literal;)+) => {
        &[$(Row {
            kind: OwnerKind::$kind,
            name: stringify!($kind),
            name_attribute: concat!("k8s.", $attribute, ".name"),
            uid_attribute: concat!("k8s.", $attribute, ".uid"),
            names_services: $names_services,
        }),+]
    };
}

pub(super) const ROWS: &[Row] = rows![
    Deployment, "deployment", true;
    ReplicaSet, "replicaset", true;
    StatefulSet, "statefulset", true;
    DaemonSet, "daemonset", true;
    CronJob, "cronjob", true;
    Job, "job", true;
    ReplicationController, "replicationcontroller", false;
];

impl OwnerKind {
    pub(super) fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.kind == self).expect("every kind has a row")
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

/// The owners of a pod with these references and labels, in the order of their kinds. `created` is in seconds since 1970.
pub(super) fn owners(
    references: &[OwnerReference],
    labels: &BTreeMap<String, String>,
    created: Option<i64>,
) -> Vec<Owner> {
    let mut owners = Vec::new();
    for reference in references {
        let Some(row) = ROWS.iter().find(|row| row.name == reference.kind) else { continue };
        let above = match row.kind {
            OwnerKind::ReplicaSet => deployment(&reference.name, labels).map(|name| (OwnerKind::Deployment, name)),
            OwnerKind::Job => cron_job(&reference.name, created).map(|name| (OwnerKind::CronJob, name)),
            _ => None,
        };
        owners.push(Owner { kind: row.kind, name: reference.name.clone(), uid: Some(reference.uid.clone()) });
        owners.extend(above.map(|(kind, name)| Owner { kind, name: name.to_owned(), uid: None }));
    }
    owners.sort_by_key(|owner| owner.kind);
    owners.dedup_by_key(|owner| owner.kind);
    owners
}

/// The Deployment of a ReplicaSet. A ReplicaSet without one has pods without the label.
fn deployment<'a>(replica_set: &'a str, labels: &BTreeMap<String, String>) -> Option<&'a str> {
    let hash = labels.get(TEMPLATE_HASH)?;
    replica_set.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
}

/// The CronJob of a Job, by the minutes since 1970. They have eight digits from 1989 to 2160.
fn cron_job(job: &str, created: Option<i64>) -> Option<&str> {
    let (name, scheduled) = job.rsplit_once('-')?;
    let is_number = scheduled.len() == 8 && scheduled.bytes().all(|byte| byte.is_ascii_digit());
    let minutes = scheduled.parse::<i64>().ok().filter(|_| is_number)?;
    let is_near = (created? / 60).abs_diff(minutes) <= MINUTES_APART.unsigned_abs();
    (is_near && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::deployment("ReplicaSet", "shop-api-7d4b9c6f5d", Some("7d4b9c6f5d"), &["Deployment/shop-api", "ReplicaSet/shop-api-7d4b9c6f5d"])]
    #[case::bare_replica_set("ReplicaSet", "shop-api", None, &["ReplicaSet/shop-api"])]
    #[case::other_hash("ReplicaSet", "shop-api", Some("7d4b9c6f5d"), &["ReplicaSet/shop-api"])]
    #[case::nothing_but_the_hash("ReplicaSet", "-7d4b9c6f5d", Some("7d4b9c6f5d"), &["ReplicaSet/-7d4b9c6f5d"])]
    #[case::stateful_set("StatefulSet", "db", None, &["StatefulSet/db"])]
    #[case::daemon_set("DaemonSet", "logs", None, &["DaemonSet/logs"])]
    #[case::cron_job("Job", "report-29934000", None, &["CronJob/report", "Job/report-29934000"])]
    #[case::retried_after_hours("Job", "report-29932600", None, &["CronJob/report", "Job/report-29932600"])]
    #[case::job_of_a_date("Job", "import-20261130", None, &["Job/import-20261130"])]
    #[case::job_of_a_time_in_seconds("Job", "import-1796040000", None, &["Job/import-1796040000"])]
    #[case::job("Job", "migrate-2", None, &["Job/migrate-2"])]
    #[case::job_of_a_hash("Job", "migrate-2957448f", None, &["Job/migrate-2957448f"])]
    #[case::replication_controller("ReplicationController", "old", None, &["ReplicationController/old"])]
    #[case::static_pod("Node", "node-1", None, &[])]
    fn owners_above_the_first_are_found_by_names(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] hash: Option<&str>,
        #[case] expected: &[&str],
    ) {
        let reference =
            OwnerReference { kind: kind.to_owned(), name: name.to_owned(), uid: "u".to_owned(), ..Default::default() };
        let labels = hash.map(|hash| (TEMPLATE_HASH.to_owned(), hash.to_owned())).into_iter().collect();
        let owners = owners(&[reference], &labels, Some(29_934_000 * 60));
        let shown: Vec<_> = owners.iter().map(|owner| format!("{}/{}", owner.kind.name(), owner.name)).collect();
        assert_eq!(shown, expected);
        assert!(owners.iter().all(|owner| owner.uid.is_some() == (owner.kind.name() == kind)));
    }
}
