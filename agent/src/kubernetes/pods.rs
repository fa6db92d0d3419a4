//! The known pods of this node.
//!
//! They are shared: a thread of its own receives changes, and the thread that follows processes looks pods up. A pod that is deleted is remembered for a
//! while, because spans may still follow. Uids and ids of containers are never reused, so a remembered pod is never taken for another one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use onlooker_engine::model::counters::Counters;
use rustc_hash::{FxHashMap, FxHashSet};

use super::pod::Pod;
use crate::discover::container::Container;

/// How many pods are kept that exist. The kubelet runs 110 by default, and up to 500 on large nodes.
const PODS_KEPT: usize = 2048;
/// How many deleted pods are remembered: as many as come and go in some minutes on a busy node.
const DELETED_KEPT: usize = 1024;
/// How many processes are remembered that wait for their pod, for rules about pods. Others are found by a scan.
const WAITING_KEPT: usize = 4096;

/// The pods of this node, as far as they are known.
pub struct Pods {
    known: RwLock<KnownPods>,
    has_news: AtomicBool,
    /// Called when there is news.
    notify: OnceLock<Box<dyn Fn() + Send + Sync>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct KnownPods {
    by_uid: FxHashMap<String, KnownPod>,
    /// Uids by the ids of containers.
    by_container: FxHashMap<String, String>,
    /// Uids by the hashes after which cgroups of static pods are named.
    by_hash: FxHashMap<String, String>,
    /// Uids of deleted pods, in the order of their deletion.
    deleted: VecDeque<String>,
    revisions: u64,
    /// Processes whose pods were not known when a rule asked for them.
    waiting: FxHashMap<u32, Container>,
    news: News,
}

#[derive(Debug)]
struct KnownPod {
    pod: Arc<Pod>,
    revision: u64,
    is_deleted: bool,
}

/// The pod of a container.
#[derive(Debug, Clone)]
pub struct Found {
    pub pod: Arc<Pod>,
    /// The index of the container in the pod, if it is known.
    pub container: Option<usize>,
    /// Another number for each description of a pod. The ids of its containers are no part of that.
    pub revision: u64,
}

/// What has happened since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Processes that waited for their pod.
    pub arrived: Vec<u32>,
    /// Labels or annotations of a pod were changed, so that other rules may apply.
    pub is_relabelled: bool,
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Pods {
    #[must_use]
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { known: RwLock::default(), has_news: AtomicBool::new(false), notify: OnceLock::new(), counters }
    }

    /// Sets what is called when there is news. Only the first call counts.
    pub fn on_news(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.notify.set(Box::new(notify));
    }

    /// The pod of a container, if it is known.
    #[must_use]
    pub fn find(&self, container: &Container) -> Option<Found> {
        self.read().find(container)
    }

    /// The same for a process. If something about it is not known yet, the process is among those that have [`News::arrived`]
    /// later.
    #[must_use]
    pub fn find_or_wait(&self, pid: u32, container: &Container) -> Option<Found> {
        let found = self.find(container);
        let is_complete = found.as_ref().is_some_and(|found| found.container.is_some());
        if !is_complete && container.is_in_pod {
            let mut known = self.write();
            // Most of many have ended.
            if known.waiting.len() >= WAITING_KEPT
                && let Some(any) = known.waiting.keys().next().copied()
            {
                known.waiting.remove(&any);
            }
            known.waiting.insert(pid, container.clone());
        }
        found
    }

    /// What has happened since the last call. None if nothing has.
    #[must_use]
    pub fn take_news(&self) -> Option<News> {
        self.has_news.swap(false, Relaxed).then(|| std::mem::take(&mut self.write().news))
    }

    /// A pod was added or changed.
    pub(crate) fn apply(&self, pod: Pod) {
        let is_news = self.write().apply(pod, &self.counters);
        if is_news
            && !self.has_news.swap(true, Relaxed)
            && let Some(notify) = self.notify.get()
        {
            notify();
        }
    }

    /// A pod was deleted.
    pub(super) fn delete(&self, uid: &str) {
        self.write().delete(uid);
    }

    /// No pods exist but these.
    pub(super) fn keep_only(&self, uids: &FxHashSet<String>) {
        let mut known = self.write();
        let is_gone =
            |(uid, known): (&String, &KnownPod)| (!known.is_deleted && !uids.contains(uid)).then(|| uid.clone());
        let gone: Vec<_> = known.by_uid.iter().filter_map(is_gone).collect();
        for uid in gone {
            known.delete(&uid);
        }
    }

    /// How many pods exist.
    pub(super) fn len(&self) -> usize {
        self.read().existing()
    }

    fn read(&self) -> RwLockReadGuard<'_, KnownPods> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KnownPods> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownPods {
    fn find(&self, container: &Container) -> Option<Found> {
        let by_cgroup = |name: &String| self.by_uid.get(name).or_else(|| self.by_uid.get(self.by_hash.get(name)?));
        let known = match &container.pod_uid {
            // The kubelet named the cgroup after the pod.
            Some(name) => by_cgroup(name)?,
            None => self.by_uid.get(self.by_container.get(&container.id)?)?,
        };
        let pod = &known.pod;
        let by_id = pod.ids.iter().find(|(id, _)| *id == container.id).map(|(_, index)| *index);
        let named = || pod.containers.iter().position(|one| container.name.as_ref() == Some(&one.name));
        let only = || (pod.containers.len() == 1).then_some(0);
        let index = by_id.or_else(named).or_else(only);
        Some(Found { pod: Arc::clone(pod), container: index, revision: known.revision })
    }

    fn existing(&self) -> usize {
        self.by_uid.len() - self.deleted.len()
    }

    /// Returns whether anything is new about the pod.
    fn apply(&mut self, mut pod: Pod, counters: &Counters) -> bool {
        let before = self.by_uid.get(&pod.uid);
        match before {
            Some(before) => {
                pod.remember_ids(&before.pod);
                if *before.pod == pod {
                    return false;
                }
            }
            None if self.existing() >= PODS_KEPT => {
                counters.pods_over_limit.add(1);
                return false;
            }
            None => counters.pods_seen.add(1),
        }
        // A list that is older than the deletion may show the pod once more. It stays deleted.
        let is_deleted = before.is_some_and(|before| before.is_deleted);
        let is_relabelled = before
            .is_some_and(|before| (&before.pod.labels, &before.pod.annotations) != (&pod.labels, &pod.annotations));
        self.news.is_relabelled |= is_relabelled;
        // A service that is described already does not change with the ids of other containers.
        let revision = before.filter(|before| before.pod.is_described_as(&pod)).map(|before| before.revision);
        let revision = revision.unwrap_or_else(|| {
            self.revisions += 1;
            self.revisions
        });
        // A container that restarts for weeks has more ids than are remembered.
        for (id, _) in before.iter().flat_map(|before| &before.pod.ids) {
            self.by_container.remove(id);
        }
        for (id, _) in &pod.ids {
            self.by_container.insert(id.clone(), pod.uid.clone());
        }
        for hash in pod.cgroup_names().skip(1) {
            self.by_hash.insert(hash.to_owned(), pod.uid.clone());
        }
        let known = KnownPod { pod: Arc::new(pod), revision, is_deleted };
        self.by_uid.insert(known.pod.uid.clone(), known);
        let mut waiting = std::mem::take(&mut self.waiting);
        // Those that still lack something are asked about again when they are judged again.
        let arrived: Vec<_> =
            waiting.extract_if(|_, container| self.find(container).is_some()).map(|(pid, _)| pid).collect();
        self.news.arrived.extend(arrived);
        self.waiting = waiting;
        true
    }

    fn delete(&mut self, uid: &str) {
        let Some(known) = self.by_uid.get_mut(uid).filter(|known| !known.is_deleted) else { return };
        known.is_deleted = true;
        self.deleted.push_back(uid.to_owned());
        if self.deleted.len() > DELETED_KEPT
            && let Some(oldest) = self.deleted.pop_front()
            && let Some(known) = self.by_uid.remove(&oldest)
        {
            for (id, _) in &known.pod.ids {
                self.by_container.remove(id);
            }
            for hash in known.pod.cgroup_names().skip(1) {
                // A static pod that was changed has another uid, and may have the same hash.
                if self.by_hash.get(hash) == Some(&oldest) {
                    self.by_hash.remove(hash);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pod::testing::{pod, shop};
    use super::*;

    fn pods() -> Pods {
        Pods::new(Arc::default())
    }

    fn container(id: &str, pod_uid: Option<&str>) -> Container {
        Container { id: id.to_owned(), is_in_pod: true, pod_uid: pod_uid.map(str::to_owned), name: None }
    }

    fn found(pods: &Pods, container: &Container) -> Option<(String, Option<usize>)> {
        pods.find(container).map(|found| (found.pod.uid.clone(), found.container))
    }

    #[test]
    fn a_container_is_found_by_its_pods_uid_and_by_its_id() {
        let pods = pods();
        pods.apply(pod(shop("u-1", &[("api", Some("aa")), ("proxy", None)])));
        assert_eq!(found(&pods, &container("aa", Some("u-1"))), Some(("u-1".to_owned(), Some(0))));
        assert_eq!(found(&pods, &container("aa", None)), Some(("u-1".to_owned(), Some(0))));
        // Which of the two it is becomes known later, or is shown by the mounts.
        let mut proxy = container("bb", Some("u-1"));
        assert_eq!(found(&pods, &proxy), Some(("u-1".to_owned(), None)));
        proxy.name = Some("proxy".to_owned());
        assert_eq!(found(&pods, &proxy), Some(("u-1".to_owned(), Some(1))));
        assert_eq!(found(&pods, &container("bb", None)), None);
        pods.apply(pod(shop("u-2", &[("only", None)])));
        assert_eq!(found(&pods, &container("cc", Some("u-2"))), Some(("u-2".to_owned(), Some(0))));
    }

    #[test]
    fn a_container_is_never_found_in_another_pod_than_its_cgroup_names() {
        let pods = pods();
        pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
        assert_eq!(found(&pods, &container("aa", Some("u-2"))), None);
        pods.apply(pod(shop("u-2", &[("api", Some("bb"))])));
        assert_eq!(found(&pods, &container("aa", Some("u-2"))), Some(("u-2".to_owned(), Some(0))));
    }

    #[test]
    fn a_static_pod_is_found_by_the_hash_of_its_manifest() {
        let pods = pods();
        let mut mirror = shop("u-1", &[("etcd", None)]);
        mirror["metadata"]["annotations"] = serde_json::json!({"kubernetes.io/config.hash": "h-1"});
        pods.apply(pod(mirror));
        assert_eq!(found(&pods, &container("aa", Some("h-1"))), Some(("u-1".to_owned(), Some(0))));
    }

    #[test]
    fn a_deleted_pod_is_remembered_for_a_while() {
        let pods = pods();
        pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
        pods.delete("u-1");
        pods.delete("u-1");
        assert_eq!(pods.len(), 0);
        assert!(pods.find(&container("aa", None)).is_some());
        for index in 0..DELETED_KEPT {
            let uid = format!("other-{index}");
            pods.apply(pod(shop(&uid, &[("api", Some(&uid))])));
            pods.delete(&uid);
        }
        assert!(pods.find(&container("aa", None)).is_none());
        let known = pods.read();
        assert_eq!((known.by_uid.len(), known.by_container.len()), (DELETED_KEPT, DELETED_KEPT));
    }

    #[test]
    fn pods_that_a_new_list_lacks_are_deleted() {
        let pods = pods();
        for uid in ["u-1", "u-2"] {
            pods.apply(pod(shop(uid, &[("api", Some(uid))])));
        }
        pods.keep_only(&FxHashSet::from_iter(["u-2".to_owned()]));
        assert_eq!(pods.len(), 1);
        assert!(pods.find(&container("u-1", None)).is_some(), "spans may follow");
    }

    #[test]
    fn the_number_of_pods_is_bounded() {
        let pods = pods();
        for index in 0..PODS_KEPT + 10 {
            pods.apply(pod(shop(&format!("u-{index}"), &[])));
        }
        assert_eq!((pods.len(), pods.counters.pods_over_limit.get()), (PODS_KEPT, 10));
        assert_eq!(pods.counters.pods_seen.get(), PODS_KEPT as u64);
    }

    #[test]
    fn a_container_that_restarts_for_ever_takes_no_more_memory() {
        let pods = pods();
        for restart in 0..1000 {
            pods.apply(pod(shop("u-1", &[("api", Some(&format!("id-{restart}")))])));
        }
        let known = pods.read();
        assert_eq!(known.by_container.len(), known.by_uid["u-1"].pod.ids.len());
        assert!(known.by_container.contains_key("id-999") && !known.by_container.contains_key("id-0"));
    }

    #[test]
    fn only_changes_are_news() {
        let pods = pods();
        let (calls, called) = std::sync::mpsc::channel();
        pods.on_news(move || calls.send(()).unwrap());
        assert_eq!(pods.take_news(), None);
        assert!(pods.find_or_wait(7, &container("aa", Some("u-1"))).is_none());
        assert!(pods.find_or_wait(8, &container("bb", Some("u-2"))).is_none());
        pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
        assert_eq!(pods.take_news(), Some(News { arrived: vec![7], is_relabelled: false }));
        pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
        assert_eq!(pods.take_news(), None, "nothing has changed");
        let mut relabelled = shop("u-1", &[("api", Some("aa"))]);
        relabelled["metadata"]["labels"]["app"] = "other".into();
        pods.apply(pod(relabelled));
        assert_eq!(pods.take_news(), Some(News { arrived: Vec::new(), is_relabelled: true }));
        assert_eq!(called.try_iter().count(), 2);
        for pid in 0..2 * WAITING_KEPT as u32 {
            let _ = pods.find_or_wait(pid, &container("cc", Some("u-3")));
        }
        assert_eq!(pods.read().waiting.len(), WAITING_KEPT);
    }
}
