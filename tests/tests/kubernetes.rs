//! Kubernetes: processes in cgroups of pods, and an API server that knows the pods.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::kubernetes::{ApiServer, Driver, Node, Owned, PodSpec, RunningContainer};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, Port, Recording, World, agent_binary};
use rstest::rstest;

const NODE: &str = "node-1";
/// The agent's line about a process in a container, which it examines next.
const EXAMINED: &str = "comm=\"pod_app\"";
/// How long a span waits for its pod, and some more.
const WAITED: Duration = Duration::from_millis(700);

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's path is UTF-8")
}

fn pod_app() -> PathBuf {
    env!("CARGO_BIN_EXE_pod_app").into()
}

/// Starts an agent that follows the pods of the node, with more options.
fn record(world: &World, api: &ApiServer, options: &[&str]) -> Result<Recording> {
    let kubeconfig = api.kubeconfig(world.dir())?;
    let file = world.dir().join("spans.jsonl");
    let always = ["--kubernetes", "on", "--file", text(&file)?];
    let environment =
        [("KUBECONFIG", text(&kubeconfig)?), ("NODE_NAME", NODE), ("RUST_LOG", "info,onlooker::watch=debug")];
    let agent = Agent::select(world, &agent_binary()?, &[&always[..], options].concat(), &environment)?;
    Ok(Recording::of_agent(agent, &file))
}

/// Starts an agent that watches the whole world.
fn record_all(world: &World, api: &ApiServer) -> Result<Recording> {
    record(world, api, &["--cgroup", text(world.cgroup().path())?])
}

/// Sends a request. Its path says what is asked.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Asks a container. The path names the container, so that its span can be judged.
fn ask(pod: &PodSpec, container: usize, running: &RunningContainer) -> Result<()> {
    let path = format!("/{}/{}/{}", pod.namespace, pod.name, pod.containers[container].0);
    ensure!(get(&running.address, &path)?.ends_with("200"));
    Ok(())
}

/// What a span's resource says about its pod, for messages.
fn of_pod(span: &Span) -> BTreeMap<&str, &str> {
    let is_of_pod = |key: &str| key.starts_with("k8s.") || key.starts_with("container.") || key.starts_with("service.");
    span.resource.iter().filter(|(key, _)| is_of_pod(key)).map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Checks that a span has all attributes of the container that was asked.
fn expect_container(span: &Span, pod: &PodSpec, container: usize) -> Result<()> {
    let (name, id) = &pod.containers[container];
    let instance = format!("{}.{}.{name}", pod.namespace, pod.name);
    let mut expected = vec![
        ("container.id", id.as_str()),
        ("k8s.container.name", name),
        ("k8s.namespace.name", &pod.namespace),
        ("k8s.node.name", NODE),
        ("k8s.pod.name", &pod.name),
        ("k8s.pod.uid", &pod.uid),
        ("service.instance.id", &instance),
        ("service.name", pod.service_name()),
        ("service.namespace", &pod.namespace),
        ("service.version", "v2"),
    ];
    expected.extend(pod.owner_attribute());
    let found = of_pod(span);
    for (key, value) in expected {
        ensure!(found.get(key) == Some(&value), "{key} of {} is not {value}: {found:?}", span.get("url.path"));
    }
    Ok(())
}

/// Checks that a span has the id of the container, and nothing of a pod.
fn expect_id_only(span: &Span, pod: &PodSpec) -> Result<()> {
    let found = of_pod(span);
    let of_pods = found.keys().filter(|key| key.starts_with("k8s.")).count();
    ensure!(of_pods == 0 && found.get("container.id") == Some(&pod.containers[0].1.as_str()), "{found:?}");
    Ok(())
}

/// The container that a span's path names.
fn asked<'a>(span: &Span, pods: &'a [PodSpec]) -> Result<(&'a PodSpec, usize)> {
    let path = span.get("url.path");
    let found = pods.iter().find_map(|pod| {
        let prefix = format!("/{}/{}/", pod.namespace, pod.name);
        let name = path.strip_prefix(&prefix)?;
        Some((pod, pod.containers.iter().position(|(container, _)| container == name)?))
    });
    found.with_context(|| format!("no pod was asked for {path}"))
}

#[rstest]
#[case::systemd(Driver::Systemd)]
#[case::cgroupfs(Driver::Cgroupfs)]
fn spans_have_the_attributes_of_their_pods(#[case] driver: Driver) -> Result<()> {
    World::story("pods", |world| {
        let (api, node) = (ApiServer::start()?, Node::new(world, driver, &pod_app()));
        let pods: Vec<_> =
            (1..).zip(Owned::ALL).map(|(at, owned)| PodSpec::numbered(at, owned, &["api", "proxy"])).collect();
        // The first pod runs before the agent does.
        api.apply(pods[0].object(NODE, true));
        let elsewhere = PodSpec::numbered(99, Owned::Deployment, &["api"]);
        api.apply(elsewhere.object("node-2", true));
        let mut running = vec![(0, 0, node.start(&pods[0], 0, &[])?)];
        let port = Port::claim()?;
        let health = port.address();
        let cgroup = text(world.cgroup().path())?;
        let recording = record(world, &api, &["--cgroup", cgroup, "--health", &port.to_string()])?;
        ensure!(get(&health, "/healthz")?.ends_with("200") && get(&health, "/readyz")?.ends_with("200"));
        for (at, pod) in pods.iter().enumerate() {
            api.apply(pod.object(NODE, false));
            for container in 0..pod.containers.len() {
                running.push((at, container, node.start(pod, container, &[])?));
            }
            api.apply(pod.object(NODE, true));
        }
        for (pod, container, running) in &running {
            ask(&pods[*pod], *container, running)?;
        }
        let outcome = recording.finish(running.len())?;
        for span in &outcome.spans {
            let (pod, container) = asked(span, &pods)?;
            expect_container(span, pod, container)?;
        }
        let requests = api.requests();
        ensure!(
            requests.iter().all(|request| request.contains("fieldSelector=spec.nodeName%3Dnode-1")),
            "{requests:?}"
        );
        ensure!(requests.len() == 2, "one list and one watch: {requests:?}");
        Ok(())
    })
}

#[test]
fn what_a_process_states_comes_before_its_pod() -> Result<()> {
    World::story("stated", |world| {
        let (api, node) = (ApiServer::start()?, Node::new(world, Driver::Systemd, &pod_app()));
        let mut pod = PodSpec::numbered(1, Owned::Deployment, &["api"]);
        pod.labels.push(("app.kubernetes.io/name".to_owned(), "labelled".to_owned()));
        pod.annotations.push(("resource.opentelemetry.io/service.namespace".to_owned(), "annotated".to_owned()));
        api.apply(pod.object(NODE, true));
        let recording = record_all(world, &api)?;
        let labelled = node.start(&pod, 0, &[])?;
        let variables =
            [("OTEL_SERVICE_NAME", "stated"), ("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,k8s.pod.name=own")];
        let stated = node.start(&pod, 0, &variables)?;
        get(&labelled.address, "/labelled")?;
        get(&stated.address, "/stated")?;
        let outcome = recording.finish(2)?;
        for span in &outcome.spans {
            let found = of_pod(span);
            let names = ["service.name", "service.namespace", "service.version", "k8s.pod.name"]
                .map(|key| found.get(key).copied());
            let expected = match span.get("url.path") {
                "/labelled" => ["labelled", "annotated", "v2", &pod.name],
                _ => ["stated", "annotated", "7", "own"],
            };
            ensure!(names == expected.map(Some), "{found:?}");
        }
        Ok(())
    })
}

#[test]
fn a_span_waits_for_its_pod_and_not_for_ever() -> Result<()> {
    World::story("late-pods", |world| {
        let (api, node) = (ApiServer::start()?, Node::new(world, Driver::Systemd, &pod_app()));
        let recording = record_all(world, &api)?;
        let pods = [1, 2].map(|at| PodSpec::numbered(at, Owned::Deployment, &["api"]));
        let [soon, late] = [node.start(&pods[0], 0, &[])?, node.start(&pods[1], 0, &[])?];
        ask(&pods[0], 0, &soon)?;
        ask(&pods[1], 0, &late)?;
        api.apply(pods[0].object(NODE, false));
        for span in recording.wait_for_spans(2)? {
            match asked(&span, &pods)? {
                (pod, container) if pod.uid == pods[0].uid => expect_container(&span, pod, container)?,
                (pod, _) => expect_id_only(&span, pod)?,
            }
        }
        // The second pod becomes known, and its later spans have it.
        api.apply(pods[1].object(NODE, true));
        let mut requests = 2;
        wait::until(within(Duration::from_secs(20)), "a span with its pod", || {
            ask(&pods[1], 0, &late)?;
            requests += 1;
            let spans = recording.wait_for_spans(requests)?;
            Ok(spans.iter().any(|span| span.resource.get("k8s.pod.name") == Some(&pods[1].name)).then_some(()))
        })?;
        let outcome = recording.finish(requests)?;
        let without_pod = outcome.spans.iter().filter(|span| !span.resource.contains_key("k8s.pod.name")).count();
        let counted = ["spans_without_pod", "spans_of_unknown_service"].map(|name| outcome.summary.get(name));
        ensure!(without_pod >= 1 && counted == [without_pod as u64, 0], "{}", outcome.summary);
        Ok(())
    })
}

/// Show 1 in small: pods come and go, half of them before the API server knows them.
#[test]
fn every_span_of_pods_that_come_and_go_has_its_pod() -> Result<()> {
    World::story("churn", |world| {
        const PODS: u32 = 20;
        const ALIVE: usize = 4;
        let names = ["api", "proxy", "cache"];
        let (api, node) = (ApiServer::start()?, Node::new(world, Driver::Systemd, &pod_app()));
        let pods: Vec<_> = (0..PODS).map(|at| PodSpec::numbered(at, Owned::ALL[at as usize % 5], &names)).collect();
        let mut recording = record_all(world, &api)?;
        let mut alive = VecDeque::new();
        for (at, pod) in pods.iter().enumerate() {
            let is_late = at % 2 == 1;
            if !is_late {
                api.apply(pod.object(NODE, false));
            }
            let running = (0..names.len()).map(|index| node.start(pod, index, &[])).collect::<Result<Vec<_>>>()?;
            if !is_late {
                api.apply(pod.object(NODE, true));
            }
            // A span does not wait long for a process that the agent has not looked at yet.
            let process = recording.agent().process();
            process.wait_for_log(within(Duration::from_secs(60)), EXAMINED, (at + 1) * names.len())?;
            for (index, container) in running.iter().enumerate() {
                ask(pod, index, container)?;
            }
            if is_late {
                api.apply(pod.object(NODE, true));
            }
            alive.push_back((pod, running));
            if alive.len() > ALIVE
                && let Some((oldest, running)) = alive.pop_front()
            {
                // A process that ends before the agent has looked at it is unknown.
                recording.wait_for_spans((at + 1 - ALIVE) * names.len())?;
                drop(running);
                api.delete(oldest.object(NODE, true));
            }
        }
        let outcome = recording.finish(PODS as usize * names.len())?;
        for span in &outcome.spans {
            let (pod, container) = asked(span, &pods)?;
            expect_container(span, pod, container)?;
        }
        ensure!(outcome.summary.get("pods_seen") == u64::from(PODS), "{}", outcome.summary);
        Ok(())
    })
}

#[test]
fn known_pods_keep_their_attributes_while_the_api_server_is_away() -> Result<()> {
    World::story("outage", |world| {
        let (api, node) = (ApiServer::start()?, Node::new(world, Driver::Cgroupfs, &pod_app()));
        let pods = [1, 2].map(|at| PodSpec::numbered(at, Owned::StatefulSet, &["db"]));
        api.apply(pods[0].object(NODE, true));
        let known = node.start(&pods[0], 0, &[])?;
        let mut recording = record_all(world, &api)?;
        api.stop();
        recording.agent().wait_for_log(within(Duration::from_secs(30)), "cannot watch the pods")?;
        let new = node.start(&pods[1], 0, &[])?;
        ask(&pods[0], 0, &known)?;
        ask(&pods[1], 0, &new)?;
        // One that is started later, by a process that is new too.
        let another = node.start(&pods[0], 0, &[])?;
        ask(&pods[0], 0, &another)?;
        for span in recording.wait_for_spans(3)? {
            match asked(&span, &pods)? {
                (pod, 0) if pod.uid == pods[0].uid => expect_container(&span, pod, 0)?,
                (pod, _) => expect_id_only(&span, pod)?,
            }
        }
        // Meanwhile one pod was deleted and another one was created, and the history is forgotten.
        api.delete(pods[0].object(NODE, true));
        api.apply(pods[1].object(NODE, true));
        api.forget_history();
        api.resume()?;
        recording.agent().wait_for_log(within(Duration::from_secs(60)), "are watched again")?;
        ask(&pods[1], 0, &new)?;
        // Spans of a deleted pod may still come.
        ask(&pods[0], 0, &known)?;
        let outcome = recording.finish(5)?;
        for span in &outcome.spans[3..] {
            let (pod, container) = asked(span, &pods)?;
            expect_container(span, pod, container)?;
        }
        let summary = outcome.summary;
        ensure!(summary.get("spans_without_pod") == 1 && summary.get("pod_watch_errors") > 0, "{summary}");
        Ok(())
    })
}

#[test]
fn rules_select_by_pods() -> Result<()> {
    World::story("pod-rules", |world| {
        let (api, node) = (ApiServer::start()?, Node::new(world, Driver::Systemd, &pod_app()));
        let mut pods = [1, 2, 3].map(|at| PodSpec::numbered(at, Owned::Deployment, &["api", "proxy"]));
        pods[0].labels.push(("tier".to_owned(), "front".to_owned()));
        pods[1].annotations.push(("example.org/trace".to_owned(), "yes".to_owned()));
        let cgroup = text(world.cgroup().path())?;
        let config = world.dir().join("onlooker.yaml");
        // The cgroup keeps the rules to this world's processes.
        let rule = |rest: &str| format!("      - {{cgroup: {cgroup}, {rest}}}\n");
        let rules = [
            rule("action: exclude, kubernetes: {container: proxy, namespace: team-1}"),
            rule("kubernetes: {label: tier=fr*}, service: {name: front}"),
            rule("kubernetes: {annotation: example.org/trace=yes, owner: Deployment/app-2}"),
        ];
        fs::write(
            &config,
            format!("file_format: \"1.1\"\nextensions:\n  onlooker:\n    selection:\n{}", rules.concat()),
        )?;
        api.apply(pods[0].object(NODE, false));
        let recording = record(world, &api, &["--config", text(&config)?])?;
        let mut running = Vec::new();
        for (at, pod) in pods.iter().enumerate() {
            for container in 0..pod.containers.len() {
                running.push((at, container, node.start(pod, container, &[])?));
            }
            // Of the others, processes run before their pod is known.
            api.apply(pod.object(NODE, true));
        }
        // A process is selected within moments of its pod becoming known.
        std::thread::sleep(WAITED);
        for (at, container, running) in &running {
            ask(&pods[*at], *container, running)?;
        }
        let outcome = recording.finish(3)?;
        let mut seen: Vec<_> =
            outcome.spans.iter().map(|span| (span.get("url.path").to_owned(), span.service.clone())).collect();
        seen.sort();
        let path = |pod: &PodSpec, name: &str| format!("/{}/{}/{name}", pod.namespace, pod.name);
        let expected = [
            (path(&pods[0], "api"), "front".to_owned()),
            (path(&pods[1], "api"), "app-2".to_owned()),
            (path(&pods[1], "proxy"), "app-2".to_owned()),
        ];
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
}

#[test]
fn doctor_tries_to_list_the_pods() -> Result<()> {
    World::story("doctor-pods", |world| {
        let api = ApiServer::start()?;
        api.apply(PodSpec::numbered(1, Owned::Nothing, &["api"]).object(NODE, true));
        let kubeconfig = api.kubeconfig(world.dir())?;
        let line = |options: &[&str]| -> Result<String> {
            let mut doctor = world.command(agent_binary()?);
            doctor.arg("doctor").args(options).env("KUBECONFIG", &kubeconfig);
            let output = String::from_utf8_lossy(&world.output_of(&mut doctor)?.stdout).into_owned();
            Ok(output.lines().find(|line| line.contains("kubernetes")).unwrap_or_default().trim().to_owned())
        };
        let line_is = |options: &[&str], beginning: &str, part: &str| {
            let line = line(options)?;
            ensure!(line.starts_with(beginning) && line.contains(part), "{line}");
            Ok(())
        };
        line_is(
            &["--kubernetes", "on", "--kubernetes-node", NODE],
            "works",
            "the pods of node-1 can be listed; it has pods",
        )?;
        line_is(&["--kubernetes", "on"], "reduced", "the name of this node is unknown")?;
        line_is(&[], "works", "off: not in a cluster")?;
        api.stop();
        line_is(&["--kubernetes", "on", "--kubernetes-node", NODE], "reduced", "spans have no attributes of pods")
    })
}
