//! Pods come and go, and the API server is killed. Every span must have its pod.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::now;
use onlooker_tests::kubernetes::{Driver, Node, Owned, PodSpec, RunningContainer};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::within;
use onlooker_tests::{Agent, Recording, World};
use serde_json::{Value, json};

use super::comparison::Comparison;
use super::control_plane::ControlPlane;
use crate::shell;

/// The node of the pods. Nothing registers it.
const NODE: &str = "node-1";
/// The time in which all pods come.
const CHURN: Duration = Duration::from_secs(60);
/// How many pods run at a time.
const ALIVE: usize = 20;
const CONTAINERS: [&str; 3] = ["api", "proxy", "cache"];
/// Pods that run when the API server is killed.
const KNOWN: u32 = 5;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

pub(super) struct Show<'a> {
    pub(super) world: &'a World,
    pub(super) agent: &'a Path,
    pub(super) pod_app: &'a Path,
}

/// A pod with its processes.
struct Pod {
    spec: PodSpec,
    running: Vec<RunningContainer>,
}

impl Show<'_> {
    pub(super) fn run(&self, control_plane: &mut ControlPlane, pods: u32, outage: u64) -> Result<Vec<String>> {
        for number in 0..3 {
            shell::read(&mut control_plane.kubectl(&["create", "namespace", &format!("team-{number}")]))?;
        }
        // What the manifests grant must suffice.
        let token =
            shell::read(&mut control_plane.kubectl(&["--namespace", "onlooker", "create", "token", "onlooker"]))?;
        let kubeconfig = control_plane.kubeconfig("kubeconfig", token.trim())?;
        let file = self.world.dir().join("spans.jsonl");
        let text = |path: &Path| path.to_str().map(str::to_owned).context("the path is UTF-8");
        let options = ["--cgroup", &text(self.world.cgroup().path())?, "--kubernetes", "on", "--file", &text(&file)?];
        let environment = [("KUBECONFIG", &*text(&kubeconfig)?), ("K8S_NODE_NAME", NODE)];
        let agent = Agent::select(self.world, self.agent, &options, &environment)?;
        let mut recording = Recording::of_agent(agent, &file);
        let node = Node::new(self.world, Driver::Systemd, self.pod_app);

        let (mut specs, mut requests) = (Vec::new(), 0);
        let took = self.churn(control_plane, &node, pods, &mut specs, &mut requests)?;
        let churned = requests;
        let (compared, attributes) = self.compare(control_plane, &node, &mut requests, &recording)?;
        let (known, new) = self.outage(control_plane, &node, outage, &mut specs, &mut requests, &mut recording)?;
        let outcome = recording.finish(requests)?;
        let (mut without_pod, mut unexamined) = (0, 0);
        for span in &outcome.spans {
            if asked(span, &compared).is_ok() {
                continue;
            }
            let (spec, container) = asked(span, &specs)?;
            if !span.resource.contains_key("container.id") {
                // Its process ended before it was examined. It must not have the attributes of any pod.
                ensure!(!span.resource.keys().any(|key| key.starts_with("k8s.")), "{:?}", span.resource);
                unexamined += 1;
            } else if new.contains(&spec.name) {
                expect_id_only(span, spec, container)?;
                without_pod += 1;
            } else {
                expect_pod(span, spec, container)?;
            }
        }
        let summary = outcome.summary;
        let expected = without_pod + unexamined;
        ensure!(summary.get("spans_without_pod") == expected, "{expected} have no pod:\n{summary}");
        let late = summary.get("spans_without_container_name");
        Ok(vec![
            format!(
                "{pods} pods with 3 containers each came and went in {} s, and the ids of half of them were reported only after their requests: {churned} spans, none with a wrong pod, owner or service name. {late} came before \
                 the container's id was reported and lack its name. {unexamined} of processes that ended before they were examined have nothing of a pod, and are counted.",
                took.as_secs()
            ),
            format!(
                "The Collector's processor `k8s_attributes` says the same about {} containers of pods with every kind of owner, with and without labels and annotations: {attributes} attributes.",
                compared.iter().map(|spec| spec.containers.len()).sum::<usize>(),
            ),
            format!(
                "The API server was killed for {outage} s. {known} spans of known pods kept their attributes. {without_pod} spans of {} new pods had `container.id` only and were counted. No span was lost.",
                new.len()
            ),
        ])
    }

    fn churn(
        &self,
        control_plane: &ControlPlane,
        node: &Node,
        pods: u32,
        specs: &mut Vec<PodSpec>,
        requests: &mut usize,
    ) -> Result<Duration> {
        let begun = Instant::now();
        let mut alive = VecDeque::new();
        for number in 0..pods {
            let due = CHURN * number / pods;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let mut spec = pod_of_now(number, Owned::ALL[number as usize % Owned::ALL.len()], &CONTAINERS);
            create(control_plane, &mut spec)?;
            let containers = 0..CONTAINERS.len();
            let running = containers.map(|index| node.start(&spec, index, &[])).collect::<Result<Vec<_>>>()?;
            let pod = Pod { spec, running };
            let is_reported_late = number % 2 == 1;
            if !is_reported_late {
                report(control_plane, &pod.spec)?;
            }
            *requests += pod.ask()?;
            if is_reported_late {
                report(control_plane, &pod.spec)?;
            }
            specs.push(pod.spec.clone());
            alive.push_back(pod);
            if alive.len() > ALIVE
                && let Some(oldest) = alive.pop_front()
            {
                *requests += oldest.end(control_plane)?;
            }
        }
        for pod in alive {
            *requests += pod.end(control_plane)?;
        }
        Ok(begun.elapsed())
    }

    /// Compares Onlooker with the Collector's processor. Returns the pods, and the number of attributes.
    fn compare(
        &self,
        control_plane: &ControlPlane,
        node: &Node,
        requests: &mut usize,
        recording: &Recording,
    ) -> Result<(Vec<PodSpec>, usize)> {
        const FIRST: u32 = 20_000;
        let comparison = Comparison::start(self.world, control_plane)?;
        let mut compared = Vec::new();
        for (number, owned) in (FIRST..).zip(Owned::ALL) {
            let mut spec = pod_of_now(number, owned, &CONTAINERS[..2]);
            if number % 2 == 1 {
                describe(&mut spec);
            }
            create(control_plane, &mut spec)?;
            report(control_plane, &spec)?;
            compared.push(spec);
        }
        let mut running = Vec::new();
        for spec in &compared {
            let containers = (0..spec.containers.len()).map(|index| node.start(spec, index, &[]));
            let pod = Pod { spec: spec.clone(), running: containers.collect::<Result<Vec<_>>>()? };
            *requests += pod.ask()?;
            running.push(pod);
        }
        let spans = recording.wait_for_spans(*requests)?;
        let mut attributes = 0;
        for span in spans.iter().filter(|span| asked(span, &compared).is_ok()) {
            attributes += comparison.compare(span)?;
        }
        for pod in running {
            *requests += pod.end(control_plane)?;
        }
        Ok((compared, attributes))
    }

    /// Returns how many requests known pods had meanwhile, and the names of the new pods.
    fn outage(
        &self,
        control_plane: &mut ControlPlane,
        node: &Node,
        seconds: u64,
        specs: &mut Vec<PodSpec>,
        requests: &mut usize,
        recording: &mut Recording,
    ) -> Result<(usize, Vec<String>)> {
        const FIRST: u32 = 10_000;
        let start = |spec: PodSpec| -> Result<Pod> { Ok(Pod { running: vec![node.start(&spec, 0, &[])?], spec }) };
        let mut known = Vec::new();
        for number in FIRST..FIRST + KNOWN {
            let mut spec = PodSpec::numbered(number, Owned::Deployment, &["api"]);
            create(control_plane, &mut spec)?;
            report(control_plane, &spec)?;
            specs.push(spec.clone());
            known.push(start(spec)?);
            *requests += known.last().context("it was added")?.ask()?;
        }
        recording.wait_for_spans(*requests)?;
        control_plane.kill_api();
        let (mut of_known, mut new) = (0, Vec::new());
        let begun = Instant::now();
        for second in 0..seconds {
            std::thread::sleep(Duration::from_secs(second).saturating_sub(begun.elapsed()));
            if second % 5 == 0 {
                let number = FIRST + 1000 + u32::try_from(second)?;
                let spec = PodSpec::numbered(number, Owned::Deployment, &["api"]);
                specs.push(spec.clone());
                new.push(start(spec)?);
            }
            for pod in &known {
                of_known += pod.ask()?;
            }
            for pod in &new {
                *requests += pod.ask()?;
            }
        }
        *requests += of_known;
        control_plane.start_api()?;
        let mut after = PodSpec::numbered(FIRST + 2000, Owned::StatefulSet, &["api"]);
        create(control_plane, &mut after)?;
        report(control_plane, &after)?;
        // It says so when something new comes.
        recording.agent().wait_for_log(within(Duration::from_secs(90)), "are watched again")?;
        specs.push(after.clone());
        *requests += start(after)?.ask()?;
        // Spans wait for their pods at most half a second. The processes must outlive that.
        std::thread::sleep(Duration::from_secs(1));
        Ok((of_known, new.iter().map(|pod| pod.spec.name.clone()).collect()))
    }
}

impl Pod {
    /// Sends each container a request whose path names the container. Returns how many.
    fn ask(&self) -> Result<usize> {
        for (index, running) in self.running.iter().enumerate() {
            let spec = &self.spec;
            let path = format!("/{}/{}/{}", spec.namespace, spec.name, spec.containers[index].0);
            let mut stream = TcpStream::connect(&running.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: pod\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            ensure!(head.ends_with(b"200"));
        }
        Ok(self.running.len())
    }

    /// Asks once more, ends the processes and deletes the pod.
    fn end(self, control_plane: &ControlPlane) -> Result<usize> {
        let asked = self.ask()?;
        drop(self.running);
        let path = format!("{}?gracePeriodSeconds=0", path(&self.spec));
        control_plane.send("DELETE", &path, JSON, &json!({}))?;
        Ok(asked)
    }
}

fn path(spec: &PodSpec) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", spec.namespace, spec.name)
}

/// Creates the pod on the node, as if it was scheduled. The API server decides the uid.
fn create(control_plane: &ControlPlane, spec: &mut PodSpec) -> Result<()> {
    let mut object = spec.object(NODE, false);
    for decided in ["uid", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().context("metadata is a map")?.remove(decided);
    }
    let collection = format!("/api/v1/namespaces/{}/pods", spec.namespace);
    let created = control_plane.send("POST", &collection, JSON, &object)?;
    spec.uid = created["metadata"]["uid"].as_str().context("a pod has a uid")?.to_owned();
    Ok(())
}

/// A pod that is created now, whose Job is scheduled for now too.
fn pod_of_now(number: u32, owned: Owned, containers: &[&str]) -> PodSpec {
    PodSpec::scheduled(number, owned, containers, now() / 60_000_000_000)
}

/// Adds labels and annotations that say how the service is called.
fn describe(spec: &mut PodSpec) {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    spec.labels.extend([("app.kubernetes.io/name", "shop"), ("app.kubernetes.io/version", "9")].map(pair));
    let annotated =
        [("resource.opentelemetry.io/service.namespace", "sales"), ("resource.opentelemetry.io/team", "blue")];
    spec.annotations.extend(annotated.map(pair));
}

/// Reports the ids of the containers, as the kubelet does.
fn report(control_plane: &ControlPlane, spec: &PodSpec) -> Result<()> {
    let status: Value = json!({"status": spec.object(NODE, true)["status"]});
    control_plane.send("PATCH", &format!("{}/status", path(spec)), MERGE, &status)?;
    Ok(())
}

/// The container that a span's path names.
fn asked<'a>(span: &Span, specs: &'a [PodSpec]) -> Result<(&'a PodSpec, usize)> {
    let path = span.get("url.path");
    let mut parts = path.split('/').skip(2);
    let (name, container) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let spec = specs.iter().find(|spec| spec.name == name).with_context(|| format!("no pod for {path}"))?;
    let index = spec.containers.iter().position(|(name, _)| name == container).context("no such container")?;
    Ok((spec, index))
}

fn expect(span: &Span, expected: &[(&str, &str)]) -> Result<()> {
    for (key, value) in expected {
        let found = span.resource.get(*key).map(String::as_str);
        ensure!(found == Some(*value), "{key} of {} is {found:?}, not {value}", span.get("url.path"));
    }
    Ok(())
}

/// The span has the pod, the owner and the name of the service.
fn expect_pod(span: &Span, spec: &PodSpec, container: usize) -> Result<()> {
    let mut expected = vec![
        ("container.id", spec.containers[container].1.as_str()),
        ("k8s.namespace.name", &spec.namespace),
        ("k8s.pod.name", &spec.name),
        ("k8s.pod.uid", &spec.uid),
        ("service.name", spec.service_name()),
        ("service.namespace", &spec.namespace),
    ];
    expected.extend(spec.owner_attribute());
    expect(span, &expected)?;
    // The name comes with the id that the kubelet reports, which may be later.
    let name = span.resource.get("k8s.container.name");
    ensure!(name.is_none_or(|name| *name == spec.containers[container].0), "{name:?}");
    Ok(())
}

fn expect_id_only(span: &Span, spec: &PodSpec, container: usize) -> Result<()> {
    expect(span, &[("container.id", spec.containers[container].1.as_str())])?;
    ensure!(!span.resource.keys().any(|key| key.starts_with("k8s.")), "{:?}", span.resource);
    Ok(())
}
