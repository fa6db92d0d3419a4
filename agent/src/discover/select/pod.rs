//! Conditions of a rule about the Kubernetes pod of a process.

use std::collections::BTreeMap;

use glob::Pattern;

use super::globs::{matches_text, pattern};
use super::options::{PodOptions, SelectError};
use crate::kubernetes::Found;

/// One of each kind must hold.
#[derive(Debug, Clone, Default)]
pub(super) struct PodConditions {
    namespaces: Vec<Pattern>,
    pods: Vec<Pattern>,
    owners: Vec<Pattern>,
    labels: Vec<Pair>,
    annotations: Vec<Pair>,
    containers: Vec<Pattern>,
}

/// A name, and a glob of its value.
#[derive(Debug, Clone)]
struct Pair {
    name: String,
    value: Pattern,
}

impl PodConditions {
    pub(super) fn of_file(options: &PodOptions) -> Result<Self, SelectError> {
        let globs =
            |globs: &[String]| globs.iter().map(|glob| pattern("kubernetes", glob)).collect::<Result<Vec<_>, _>>();
        let pairs = |pairs: &[String]| pairs.iter().map(|text| Pair::parse(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            namespaces: globs(&options.namespaces)?,
            pods: globs(&options.pods)?,
            owners: globs(&options.owners)?,
            labels: pairs(&options.labels)?,
            annotations: pairs(&options.annotations)?,
            containers: globs(&options.containers)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { namespaces, pods, owners, labels, annotations, containers } = self;
        [namespaces, pods, owners, containers].iter().all(|globs| globs.is_empty())
            && labels.is_empty()
            && annotations.is_empty()
    }

    /// Whether they hold for a process in this pod. Nothing holds for an unknown pod.
    pub(super) fn match_pod(&self, found: Option<&Found>) -> bool {
        let Some(Found { pod, container, .. }) = found else { return self.is_empty() };
        let name = container.and_then(|index| pod.containers.get(index)).map(|container| container.name.as_str());
        let any = |globs: &[Pattern], text: Option<&str>| globs.is_empty() || matches_text(globs, text);
        let is_owned = |globs: &[Pattern]| {
            let mut owners = pod.owners.iter();
            owners.any(|owner| {
                let with_kind = format!("{}/{}", owner.kind.name(), owner.name);
                matches_text(globs, Some(&owner.name)) || matches_text(globs, Some(&with_kind))
            })
        };
        any(&self.namespaces, Some(&pod.namespace))
            && any(&self.pods, Some(&pod.name))
            && (self.owners.is_empty() || is_owned(&self.owners))
            && (self.labels.is_empty() || self.labels.iter().any(|pair| pair.is_in(&pod.labels)))
            && (self.annotations.is_empty() || self.annotations.iter().any(|pair| pair.is_in(&pod.annotations)))
            && any(&self.containers, name)
    }
}

impl Pair {
    /// `name=glob`, or a name with any value.
    fn parse(text: &str) -> Result<Self, SelectError> {
        let (name, glob) = text.split_once('=').unwrap_or((text, "*"));
        Ok(Self { name: name.to_owned(), value: pattern("kubernetes", glob)? })
    }

    fn is_in(&self, pairs: &BTreeMap<String, String>) -> bool {
        matches_text(std::slice::from_ref(&self.value), pairs.get(&self.name).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::kubernetes::testing::{pod, shop};

    #[rstest]
    #[case::namespace(|o: &mut PodOptions| o.namespaces = texts(&["us", "e*"]), true)]
    #[case::other_namespace(|o: &mut PodOptions| o.namespaces = texts(&["us"]), false)]
    #[case::pod(|o: &mut PodOptions| o.pods = texts(&["shop-*"]), true)]
    #[case::deployment(|o: &mut PodOptions| o.owners = texts(&["shop"]), true)]
    #[case::kind_of_owner(|o: &mut PodOptions| o.owners = texts(&["Deployment/*"]), true)]
    #[case::other_kind(|o: &mut PodOptions| o.owners = texts(&["StatefulSet/*"]), false)]
    #[case::replica_set(|o: &mut PodOptions| o.owners = texts(&["shop-7d4b9c6f5d"]), true)]
    #[case::label(|o: &mut PodOptions| o.labels = texts(&["tier=x", "app=sh?p"]), true)]
    #[case::any_value(|o: &mut PodOptions| o.labels = texts(&["app"]), true)]
    #[case::other_value(|o: &mut PodOptions| o.labels = texts(&["app=x"]), false)]
    #[case::absent_label(|o: &mut PodOptions| o.labels = texts(&["tier"]), false)]
    #[case::annotation(|o: &mut PodOptions| o.annotations = texts(&["trace=yes"]), true)]
    #[case::other_annotation(|o: &mut PodOptions| o.annotations = texts(&["trace=no"]), false)]
    #[case::container(|o: &mut PodOptions| o.containers = texts(&["api"]), true)]
    #[case::other_container(|o: &mut PodOptions| o.containers = texts(&["proxy"]), false)]
    #[case::all_kinds_must_hold(|o: &mut PodOptions| { o.namespaces = texts(&["eu"]); o.pods = texts(&["other"]) }, false)]
    fn a_pod_is_matched_by_what_describes_it(#[case] set: fn(&mut PodOptions), #[case] expected: bool) {
        let mut described = shop("u-1", &[("api", Some("aa")), ("proxy", Some("bb"))]);
        described["metadata"]["annotations"] = serde_json::json!({"trace": "yes"});
        let found = Found { pod: Arc::new(pod(described)), container: Some(0), revision: 1 };
        let mut options = PodOptions::default();
        set(&mut options);
        let conditions = PodConditions::of_file(&options).unwrap();
        assert!(!conditions.is_empty());
        assert_eq!(conditions.match_pod(Some(&found)), expected);
        assert!(!conditions.match_pod(None), "nothing is known about the pod");
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
