//! Services of processes in pods. The processes run in no container, so their container is given.

use std::process::Command;

use super::tests::{Running, attribute};
use super::*;
use crate::discover::container::Container;
use crate::kubernetes::testing::{pod, shop};

const READY: &str = "echo ready; read line";

fn services() -> (Services, Arc<Pods>) {
    let pods = Arc::new(Pods::new(Arc::default()));
    let mut services = Services::new(Arc::new(Host::read("", Vec::new())), Arc::default());
    services.look_up_pods(Arc::clone(&pods));
    (services, pods)
}

fn container(id: &str) -> Container {
    Container { id: id.to_owned(), is_in_pod: true, pod_uid: Some("u-1".to_owned()), name: None }
}

fn pending(pid: u32) -> PendingService {
    PendingService::new(pid, "sh".into(), Arc::new(Host::default()))
}

/// Remembers a process as if it had been examined in the container.
fn examined_in(services: &mut Services, process: &Running, is_named: bool) {
    let process = Process::open(process.pid()).unwrap();
    let instance = Instance::by_comm(process.identity(), "worker");
    let parts = Parts::of_unexamined(&services.host, &instance);
    let examined = Examined {
        container: Some(container("aa")),
        is_named,
        ..Examined::without_pod(instance, parts, Arc::default())
    };
    let examined = Arc::new(examined);
    let found = services.pods.as_ref().and_then(|pods| pods.find(&container("aa")));
    let (service, membership) = services.in_pod(&examined, found.as_ref());
    services.remember(process.identity(), &service, None, membership);
}

#[test]
fn a_request_waits_for_the_pod_and_is_answered_with_it() {
    let (mut services, pods) = services();
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    let request = pending(process.pid());
    services.answer(&request);
    assert!(request.is_examined() && !request.is_answered());
    assert_eq!(request.give_up().pod, PodMetadata::Unknown);
    assert_eq!(request.give_up().name, "worker");

    // The process has ended when its pod becomes known.
    drop(process);
    pods.apply(pod(shop("u-1", &[("api", None), ("proxy", None)])));
    assert!(!services.pods_changed(), "nothing that was answered has changed");
    let service = request.give_up();
    assert_eq!((service.name.as_str(), service.pod), ("shop", PodMetadata::WithoutContainer));
    assert_eq!(attribute(service, "k8s.deployment.name").as_deref(), Some("shop"));
    assert_eq!(attribute(service, "k8s.container.name"), None);
    assert!(!request.is_answered());

    pods.apply(pod(shop("u-1", &[("api", Some("aa")), ("proxy", None)])));
    services.pods_changed();
    assert!(request.is_answered());
    let service = request.service().unwrap();
    assert_eq!((service.name.as_str(), service.pod), ("shop", PodMetadata::Complete));
    assert_eq!(attribute(service, "service.instance.id").as_deref(), Some("eu.shop-7d4b9c6f5d-x2x4z.api"));
    assert!(services.awaiting.is_empty());
}

/// The process ends, and another one gets its id before the pod is known.
#[test]
fn a_request_is_not_answered_with_the_pod_of_a_process_that_reuses_the_id() {
    let (mut services, pods) = services();
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    let request = pending(process.pid());
    services.answer(&request);
    services.executed(process.pid());
    let other = Arc::new(Service::new("other", opentelemetry_sdk::Resource::builder_empty().build()));
    services.remember(Process::open(process.pid()).unwrap().identity(), &other, None, None);
    pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
    services.pods_changed();
    assert_eq!(request.service().map(|service| service.name.as_str()), Some("shop"));
    assert_eq!(services.of(process.pid(), "sh").name, "other");
}

#[test]
fn a_process_that_ended_while_it_was_examined_has_its_pod() {
    let (mut services, pods) = services();
    pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
    let shell = Running::new(Command::new("sh").args(["-c", READY]));
    let process = Process::open(shell.pid()).unwrap();
    drop(shell);
    assert!(services.ended_in(&process, container("aa")).is_some());
    let service = services.of(process.pid(), "sh");
    assert_eq!((service.name.as_str(), service.pod), ("shop", PodMetadata::Complete));
    assert_eq!(attribute(&service, "container.id").as_deref(), Some("aa"));
}

#[test]
fn a_name_that_the_process_states_comes_before_the_pods() {
    let (mut services, pods) = services();
    pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, true);
    let service = services.of(process.pid(), "sh");
    assert_eq!((service.name.as_str(), service.pod), ("worker", PodMetadata::Complete));
    assert_eq!(attribute(&service, "k8s.pod.uid").as_deref(), Some("u-1"));
}

#[test]
fn a_changed_label_changes_later_spans_only() {
    let (mut services, pods) = services();
    pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    let before = services.of(process.pid(), "sh");
    // Another id is no reason to describe the pod anew.
    pods.apply(pod(shop("u-1", &[("api", Some("bb"))])));
    assert!(!services.pods_changed());
    let mut relabelled = shop("u-1", &[("api", Some("bb"))]);
    relabelled["metadata"]["labels"]["app.kubernetes.io/name"] = "renamed".into();
    pods.apply(pod(relabelled));
    assert!(services.pods_changed());
    assert_eq!(before.name, "shop");
    examined_in(&mut services, &process, false);
    assert_eq!(services.of(process.pid(), "sh").name, "renamed");
}

#[test]
fn a_process_that_ends_after_its_pod_has_changed_keeps_what_it_has() {
    let (mut services, pods) = services();
    pods.apply(pod(shop("u-1", &[("api", Some("aa"))])));
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    let mut relabelled = shop("u-1", &[("api", Some("aa"))]);
    relabelled["metadata"]["labels"]["app.kubernetes.io/name"] = "renamed".into();
    pods.apply(pod(relabelled));
    assert!(services.pods_changed());
    assert!(!services.pods_changed(), "it is known that it must be examined again");
    let pid = process.pid();
    drop(process);
    let service = services.of(pid, "sh");
    assert_eq!((service.name.as_str(), service.pod), ("shop", PodMetadata::Complete));
}

#[test]
fn a_process_that_was_never_seen_counts_as_one_of_an_unknown_pod() {
    let (mut services, _) = services();
    let request = pending(0x7fff_fff0);
    services.answer(&request);
    assert!(request.is_answered());
    assert_eq!(request.give_up().pod, PodMetadata::Unknown);
}

#[test]
fn without_followed_pods_nothing_is_waited_for() {
    let (mut services, _) = services();
    services.pods = None;
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    let request = pending(process.pid());
    services.answer(&request);
    assert!(request.is_answered());
}

#[test]
fn the_number_of_waiting_requests_is_bounded() {
    let (mut services, _) = services();
    let process = Running::new(Command::new("sh").args(["-c", READY]));
    examined_in(&mut services, &process, false);
    for _ in 0..AWAITING_KEPT + 10 {
        services.answer(&pending(process.pid()));
    }
    assert_eq!(services.awaiting.len(), AWAITING_KEPT);
}
