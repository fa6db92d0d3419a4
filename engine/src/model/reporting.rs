//! What is reported of a service's requests. The user decides that.

use std::sync::Arc;

use onlooker_protocols::Spec;

use crate::route::PathPattern;

/// Which requests of a service become spans, and how their routes are called. By default all do, and routes are found by
/// looking at paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reporting {
    /// No request of the service is reported: a rule excludes it.
    pub is_excluded: bool,
    /// The names of the protocols that are reported. All if there is none.
    pub protocols: Option<Box<[Box<str>]>>,
    /// The first pattern that matches is the route.
    pub routes: Vec<PathPattern>,
    /// Requests for these paths are ignored, with everything that is done for them.
    pub ignored: Vec<PathPattern>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Reported,
    /// It has no span. The calls made for it belong to the request above it.
    Omitted,
    /// Neither it nor what is done for it has spans.
    Ignored,
}

impl Reporting {
    /// What becomes of a request of this protocol for this path.
    #[must_use]
    pub fn judge(&self, protocol: Option<&Spec>, path: &str) -> Verdict {
        let is_listed = |names: &[Box<str>]| protocol.is_some_and(|spec| names.iter().any(|name| **name == *spec.name));
        if self.is_excluded || self.protocols.as_deref().is_some_and(|names| !is_listed(names)) {
            Verdict::Omitted
        } else if self.ignored.iter().any(|pattern| pattern.matches(path)) {
            Verdict::Ignored
        } else {
            Verdict::Reported
        }
    }

    /// Whether it leaves any request out.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.is_excluded || self.protocols.is_some() || !self.ignored.is_empty()
    }

    /// The route of a path, if a pattern says it.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&Arc<str>> {
        self.routes.iter().find(|pattern| pattern.matches(path)).map(PathPattern::text)
    }
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{http1, redis};

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<PathPattern> {
        texts.iter().map(|text| PathPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_request_is_judged_by_its_process_its_protocol_and_its_path() {
        let judge = |reporting: &Reporting| {
            [(&http1::SPEC, "/healthz"), (&http1::SPEC, "/cart"), (&redis::SPEC, "")]
                .map(|(protocol, path)| reporting.judge(Some(protocol), path))
        };
        let all = Reporting::default();
        assert_eq!((judge(&all), all.is_restricted()), ([Verdict::Reported; 3], false));
        let ignoring = Reporting { ignored: patterns(&["/healthz"]), ..Reporting::default() };
        assert_eq!(judge(&ignoring), [Verdict::Ignored, Verdict::Reported, Verdict::Reported]);
        let only_redis = Reporting { protocols: Some(Box::new(["redis".into()])), ..ignoring.clone() };
        assert_eq!(judge(&only_redis), [Verdict::Omitted, Verdict::Omitted, Verdict::Reported]);
        let excluded = Reporting { is_excluded: true, ..Reporting::default() };
        assert_eq!(judge(&excluded), [Verdict::Omitted; 3]);
        assert!([ignoring, only_redis, excluded].iter().all(Reporting::is_restricted));
    }
}
