//! The Collector's processor `k8s_attributes` must say of a container what Onlooker says.
//!
//! The processor gets a span with the ids that Onlooker knows without an API server, and adds the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::Tier;
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{World, machine};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;

/// Everything that the processor can say without watching more than pods.
const CONFIGURATION: &str = r#"
receivers:
  otlp: {protocols: {http: {endpoint: "${env:LISTEN_HTTP}"}}}
processors:
  k8s_attributes:
    auth_type: kubeConfig
    wait_for_metadata: true
    extract:
      otel_annotations: true
      metadata:
        - k8s.namespace.name
        - k8s.pod.name
        - k8s.pod.uid
        - k8s.pod.start_time
        - k8s.node.name
        - k8s.deployment.name
        - k8s.replicaset.name
        - k8s.replicaset.uid
        - k8s.statefulset.name
        - k8s.statefulset.uid
        - k8s.daemonset.name
        - k8s.daemonset.uid
        - k8s.job.name
        - k8s.job.uid
        - k8s.cronjob.name
        - k8s.container.name
        - container.image.name
        - container.image.tags
        - service.namespace
        - service.name
        - service.version
        - service.instance.id
    pod_association:
      - sources: [{from: resource_attribute, name: k8s.pod.uid}]
exporters:
  file: {path: "${env:RECEIVED}", flush_interval: 50ms}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [k8s_attributes], exporters: [file]}
"#;

/// Makes the processor use the stable semantic conventions (`container.image.tags`).
const STABLE: &str = "processor.k8sattributes.EmitV1K8sConventions,processor.k8sattributes.DontEmitV0K8sConventions";

/// What Onlooker says about a process, its machine and itself. The processor knows pods only.
const NOT_OF_PODS: [&str; 4] = ["host.", "os.", "process.", "telemetry."];

/// The processor adds the name of a container with the id that the kubelet reported, which it may learn a moment after the pod.
const SAME_WITHIN: Duration = Duration::from_secs(20);

/// A Collector with the processor.
pub(super) struct Comparison<'a> {
    world: &'a World,
    collector: Tier,
    received: PathBuf,
}

impl<'a> Comparison<'a> {
    pub(super) fn start(world: &'a World, control_plane: &ControlPlane) -> Result<Self> {
        let configuration = world.dir().join("k8s-attributes.yaml");
        fs::write(&configuration, CONFIGURATION).context("cannot write the Collector's configuration")?;
        let received = world.dir().join("k8s-attributes.jsonl");
        let text = |path: &Path| path.display().to_string();
        let environment = [("KUBECONFIG", text(&control_plane.administrator()?)), ("RECEIVED", text(&received))];
        let mut command = world.command(machine::pods_collector()?);
        command.arg(format!("--feature-gates={STABLE}"));
        let collector = Tier::start_command(world, "k8s-attributes", command, &[configuration], &environment)?;
        Ok(Self { world, collector, received })
    }

    /// Fails unless the processor says the same about the container of this span. Returns the number of attributes.
    pub(super) fn compare(&self, span: &Span) -> Result<usize> {
        let expected = of_pods(&span.resource);
        let mut found = BTreeMap::new();
        let same = wait::until(within(SAME_WITHIN), "equal attributes", || {
            self.send(span)?;
            let spans = spans::from_requests(&spans::read_lines(&self.received)?)?;
            let Some(last) = spans.into_iter().rfind(|received| received.name == span.get("url.path")) else {
                return Ok(None);
            };
            found = of_pods(&last.resource);
            Ok((found == expected).then_some(()))
        });
        same.with_context(|| format!("Onlooker says {expected:#?}, and the processor {found:#?}"))?;
        ensure!(expected.contains_key("k8s.container.name"), "{expected:?}");
        Ok(expected.len())
    }

    /// Sends a span that has only the ids.
    fn send(&self, span: &Span) -> Result<()> {
        let attribute = |key: &str| json!({"key": key, "value": {"stringValue": span.resource.get(key)}});
        let ids = ["container.id", "k8s.pod.uid"].map(attribute);
        let bare = json!({
            "traceId": span.trace_id, "spanId": span.span_id, "name": span.get("url.path"), "kind": 2,
            "startTimeUnixNano": span.start.to_string(), "endTimeUnixNano": span.end.to_string(),
        });
        let request: Value =
            json!({"resourceSpans": [{"resource": {"attributes": ids}, "scopeSpans": [{"spans": [bare]}]}]});
        let url = format!("{}/v1/traces", self.collector.http_endpoint());
        let mut curl = self.world.command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--header",
            "content-type: application/json",
        ]);
        self.world.run_unwatched(curl.args(["--data", &request.to_string(), &url])).map(drop)
    }
}

/// What a resource says about its pod.
fn of_pods(resource: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_of_pod = |key: &str| !NOT_OF_PODS.iter().any(|prefix| key.starts_with(prefix));
    resource.iter().filter(|(key, _)| is_of_pod(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}
