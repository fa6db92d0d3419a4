//! Whether the pods of this node are followed, which node that is, and how the API server is reached.

use std::path::Path;
use std::time::Duration;

use kube::api::{Api, ListParams};
use kube::{Client, Config};

use super::observed::ObservedPod;
use crate::kernel::capability::{Finding, Verdict};

/// Variables with the name of the node. Kubernetes sets them as a manifest says: `fieldRef: spec.nodeName`.
const NODE_VARIABLES: [&str; 2] = ["K8S_NODE_NAME", "NODE_NAME"];
/// Kubernetes sets it in every container, and mounts the token unless a pod asks for none.
const API_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How long a connection may take, and how long `doctor` waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// When pods are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Inside of a cluster, if the name of the node is known
    #[default]
    Auto,
    /// Always. The API server is that of KUBECONFIG, or else that of the cluster
    On,
    /// Never
    Off,
}

impl Mode {
    /// The names in the configuration file.
    pub const NAMES: [&'static str; 3] = ["auto", "on", "off"];
}

/// Where the pods of a node are learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub node: String,
    /// The cluster that the agent runs in, whatever KUBECONFIG says.
    is_own_cluster: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotConfigured {
    #[error(
        "the name of this node is unknown, so its pods cannot be watched: set --kubernetes-node, or K8S_NODE_NAME from \
         `fieldRef: spec.nodeName`"
    )]
    Node,
}

impl Source {
    /// The source, if pods are to be followed.
    ///
    /// # Errors
    /// If they are, and the node is unknown. With [`Mode::Auto`] that is no reason not to start.
    pub fn choose(mode: Mode, node: Option<&str>) -> Result<Option<Self>, NotConfigured> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::choose_by(mode, node, is_in_cluster(), variable)
    }

    fn choose_by(
        mode: Mode,
        node: Option<&str>,
        is_in_cluster: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, NotConfigured> {
        if mode == Mode::Off || mode == Mode::Auto && !is_in_cluster {
            return Ok(None);
        }
        let node = node.map(str::to_owned).or_else(|| NODE_VARIABLES.iter().find_map(|name| variable(name)));
        Ok(Some(Self { node: node.ok_or(NotConfigured::Node)?, is_own_cluster: mode == Mode::Auto }))
    }

    /// A client for the API server. Tokens are read again when they change.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let mut config = if self.is_own_cluster { Config::incluster()? } else { Config::infer().await? };
        config.connect_timeout = Some(TIMEOUT);
        Ok(Client::try_from(config)?)
    }
}

fn is_in_cluster() -> bool {
    std::env::var_os(API_VARIABLE).is_some_and(|host| !host.is_empty()) && Path::new(TOKEN).exists()
}

/// Tries to list the pods of this node, for `doctor`.
pub async fn examine(mode: Mode, node: Option<&str>) -> Finding {
    let (verdict, detail) = match Source::choose(mode, node) {
        Ok(None) => (Verdict::Works, "off: not in a cluster; `--kubernetes on` follows the pods of a node".to_owned()),
        Err(why) => (Verdict::Reduced, why.to_string()),
        Ok(Some(source)) => match tokio::time::timeout(TIMEOUT, first_pod(&source)).await {
            Ok(Ok(any)) => {
                let pods = if any { "has pods" } else { "has no pods" };
                (Verdict::Works, format!("the pods of {} can be listed; it {pods}", source.node))
            }
            Ok(Err(error)) => (Verdict::Reduced, format!("spans have no attributes of pods: {error:#}")),
            Err(_) => (Verdict::Reduced, "spans have no attributes of pods: the API server does not answer".to_owned()),
        },
    };
    Finding { name: "kubernetes", verdict, detail }
}

/// Whether the node has a pod.
async fn first_pod(source: &Source) -> anyhow::Result<bool> {
    let pods: Api<ObservedPod> = Api::all(source.connect().await?);
    let of_node = ListParams::default().fields(&of_node(&source.node)).limit(1);
    Ok(!pods.list(&of_node).await?.items.is_empty())
}

/// The field selector of a node's pods.
pub(super) fn of_node(node: &str) -> String {
    format!("spec.nodeName={node}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::off(Mode::Off, Some("n"), true, None, Ok(None))]
    #[case::outside(Mode::Auto, Some("n"), false, None, Ok(None))]
    #[case::inside(Mode::Auto, None, true, Some("NODE_NAME"), Ok(Some(true)))]
    #[case::inside_without_a_node(Mode::Auto, None, true, None, Err(NotConfigured::Node))]
    #[case::outside_if_asked_for(Mode::On, None, false, Some("K8S_NODE_NAME"), Ok(Some(false)))]
    #[case::without_a_node(Mode::On, None, false, None, Err(NotConfigured::Node))]
    fn pods_are_followed_if_asked_for_or_inside_a_cluster(
        #[case] mode: Mode,
        #[case] node: Option<&str>,
        #[case] is_in_cluster: bool,
        #[case] variable: Option<&str>,
        #[case] expected: Result<Option<bool>, NotConfigured>,
    ) {
        let source =
            Source::choose_by(mode, node, is_in_cluster, |name| (Some(name) == variable).then(|| "n".to_owned()));
        let expected = expected.map(|own| own.map(|is_own_cluster| Source { node: "n".to_owned(), is_own_cluster }));
        assert_eq!(source, expected);
    }
}
