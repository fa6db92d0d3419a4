//! Follows the pods of one node.
//!
//! One list and one watch with a field selector, on a thread with an event loop of its own: deciphering a large answer must not delay records. `kube`
//! repeats what fails, after 1 to 30 s. After an outage it lists again, and only then pods that the list lacks are deleted.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as stream};
use kube::{Api, Client};
use onlooker_engine::model::counters::Counters;
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use super::connection::{Source, of_node};
use super::observed::ObservedPod;
use super::pod::Pod;
use super::pods::Pods;

/// The pause after a failure to read the credentials.
const PAUSE: Duration = Duration::from_secs(5);

/// Follows pods until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    /// Closed when this is dropped, which ends the thread.
    _stop: oneshot::Sender<()>,
    listed: std::sync::mpsc::Receiver<()>,
}

impl Watcher {
    /// Waits until all pods of the node are known. False if that takes longer than `within`.
    #[must_use]
    pub fn has_listed(&self, within: Duration) -> bool {
        self.listed.recv_timeout(within).is_ok()
    }
}

/// Starts to follow the pods of a node.
pub fn watch(source: Source, pods: Arc<Pods>, counters: Arc<Counters>) -> std::io::Result<Watcher> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let (report, listed) = std::sync::mpsc::channel();
    let follow = Follow { source, pods, counters, report: Some(report), is_failing: false };
    std::thread::Builder::new().name("kubernetes".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // It is closed, not sent to.
                _ = stopped => {}
                () = follow.run() => {}
            }
        });
        // A look-up of a host name may still be running.
        runtime.shutdown_background();
    })?;
    Ok(Watcher { _stop: stop, listed })
}

struct Follow {
    source: Source,
    pods: Arc<Pods>,
    counters: Arc<Counters>,
    /// Told once about the first complete list.
    report: Option<std::sync::mpsc::Sender<()>>,
    is_failing: bool,
}

impl Follow {
    async fn run(mut self) {
        loop {
            match self.source.connect().await {
                Ok(client) => self.follow(client).await,
                Err(error) => self.failed(&format!("{error:#}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self, client: Client) {
        // Any version: the list comes from the API server's memory, and the watch goes on from there.
        let config = watcher::Config::default().fields(&of_node(&self.source.node)).any_semantic();
        let mut changes = pin!(stream(Api::<ObservedPod>::all(client), config).default_backoff());
        let mut listed = FxHashSet::default();
        while let Some(change) = changes.next().await {
            match change {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => listed.extend(self.apply(pod)),
                Ok(Event::InitDone) => {
                    self.pods.keep_only(&listed);
                    self.works();
                }
                Ok(Event::Apply(pod)) => {
                    self.apply(pod);
                    self.works();
                }
                Ok(Event::Delete(pod)) => {
                    if let Some(uid) = &pod.metadata.uid {
                        self.pods.delete(uid);
                    }
                }
                Err(error) => self.failed(&error.to_string()),
            }
        }
    }

    /// Returns the uid of the pod.
    fn apply(&self, observed: ObservedPod) -> Option<String> {
        let pod = Pod::of(observed)?;
        let uid = pod.uid.clone();
        self.pods.apply(pod);
        Some(uid)
    }

    fn failed(&mut self, error: &str) {
        self.counters.pod_watch_errors.add(1);
        let node = self.source.node.as_str();
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(node, error, "cannot watch the pods of this node");
        } else {
            tracing::warn!(node, error, "cannot watch the pods of this node; known ones keep their attributes");
        }
    }

    fn works(&mut self) {
        let (node, pods) = (self.source.node.as_str(), self.pods.len());
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::warn!(node, pods, "the pods of this node are watched again");
        }
        if let Some(report) = self.report.take() {
            tracing::info!(node, pods, "watching the pods of this node");
            // This fails only if the receiver was dropped.
            let _ = report.send(());
        }
    }
}
