//! What a process's environment says about its service, and about the span that it was started for. Nothing else of it is kept.

use std::sync::Arc;

use onlooker_protocols::propagation::TraceContext;
use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;

use crate::percent;
use crate::runtimes::RUNTIMES;

/// How many attributes of one process are used. Every request repeats the resource, so there must be a limit.
const ATTRIBUTES_KEPT: usize = 128;

/// The longest OTEL_RESOURCE_ATTRIBUTES that is used. It stays in memory as long as the process is remembered.
const ATTRIBUTES_BYTES: usize = 16 << 10;

/// The variables that describe a service and its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// OTEL_SERVICE_NAME, or else `service.name` in OTEL_RESOURCE_ATTRIBUTES.
    pub(super) service_name: Option<String>,
    /// OTEL_RESOURCE_ATTRIBUTES without `service.name`, decoded.
    pub(super) attributes: Vec<(String, String)>,
    /// OTEL_RESOURCE_ATTRIBUTES was discarded. The OpenTelemetry specification requires this if any part is malformed.
    pub(super) malformed: bool,
    /// TRACEPARENT and TRACESTATE, if they are well-formed: the span that the process was started for.
    pub(super) started_by: Option<Arc<TraceContext>>,
    /// The variables that rows of the table of runtimes read.
    pub(super) runtime: Vec<(&'static str, String)>,
}

impl Environment {
    /// Parses /proc/PID/environ: `NAME=value`, a NUL after each. An empty value counts as unset.
    #[must_use]
    pub(super) fn parse(block: &[u8]) -> Self {
        let mut environment = Self::default();
        let (mut attributes, mut traceparent, mut tracestate) = (None, None, None);
        for variable in block.split(|&byte| byte == 0) {
            let Some((name, value)) = split_once(variable, b'=').filter(|(_, value)| !value.is_empty()) else {
                continue;
            };
            // Of two variables with one name the first counts, as for getenv(3).
            match name {
                b"OTEL_SERVICE_NAME" => first(&mut environment.service_name, value),
                b"OTEL_RESOURCE_ATTRIBUTES" => first(&mut attributes, value),
                // OpenTelemetry specification, "Environment Variables as Context Propagation Carriers". BAGGAGE is not used.
                b"TRACEPARENT" => traceparent = traceparent.or(Some(value)),
                b"TRACESTATE" => tracestate = tracestate.or(Some(value)),
                _ => environment.keep_for_runtime(name, value),
            }
        }
        environment.started_by = TraceContext::from_fields(traceparent, tracestate).map(Arc::new);
        match resource_attributes(&attributes.unwrap_or_default()) {
            Some(attributes) => environment.attributes = attributes,
            None => environment.malformed = true,
        }
        let named = environment.attributes.iter().rposition(|(key, _)| key == SERVICE_NAME);
        if let Some((_, name)) = named.map(|at| environment.attributes.remove(at)) {
            environment.service_name.get_or_insert(name);
        }
        environment.attributes.retain(|(key, _)| key != SERVICE_NAME);
        environment
    }

    fn keep_for_runtime(&mut self, name: &[u8], value: &[u8]) {
        let mut variables = RUNTIMES.iter().flat_map(|runtime| runtime.variables);
        if let Some(variable) = variables.find(|variable| variable.as_bytes() == name)
            && !self.runtime.iter().any(|(kept, _)| kept == variable)
        {
            self.runtime.push((variable, String::from_utf8_lossy(value).into_owned()));
        }
    }
}

/// Parses `key=value,...`, both percent-encoded (OpenTelemetry specification, Resource SDK; W3C Baggage). None if it is
/// malformed or too long.
fn resource_attributes(text: &str) -> Option<Vec<(String, String)>> {
    if text.len() > ATTRIBUTES_BYTES {
        return None;
    }
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).take(ATTRIBUTES_KEPT);
    let attributes = pairs.map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let decoded = |text: &str| String::from_utf8(percent::decoded(text.trim())?).ok();
        let (key, value) = (decoded(key)?, decoded(value)?);
        (!key.is_empty()).then_some((key, value))
    });
    attributes.collect()
}

fn first(slot: &mut Option<String>, value: &[u8]) {
    slot.get_or_insert_with(|| String::from_utf8_lossy(value).into_owned());
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PARENT: &str = "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\0";

    #[rstest]
    #[case::alone(PARENT.to_owned(), Some(""))]
    #[case::with_state(format!("TRACESTATE=rojo=1,congo=2\0{PARENT}"), Some("rojo=1,congo=2"))]
    #[case::baggage_is_ignored(format!("BAGGAGE=user=secret\0{PARENT}"), Some(""))]
    #[case::the_first_counts(format!("{PARENT}TRACEPARENT=other\0"), Some(""))]
    #[case::malformed("TRACEPARENT=00-0af7-b7ad-01\0".to_owned(), None)]
    #[case::zero(PARENT.replace("b7ad6b7169203331", "0000000000000000"), None)]
    #[case::malformed_state(format!("{PARENT}TRACESTATE=no\0"), Some(""))]
    #[case::lower_case_names_are_others(PARENT.to_lowercase(), None)]
    #[case::empty("TRACEPARENT=\0".to_owned(), None)]
    fn a_process_is_started_for_a_span(#[case] block: String, #[case] state: Option<&str>) {
        let started_by = Environment::parse(block.as_bytes()).started_by;
        assert_eq!(started_by.as_ref().map(|context| context.tracestate.as_str()), state);
        if let Some(context) = started_by {
            assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[rstest]
    #[case::name("OTEL_SERVICE_NAME=shop\0HOME=/root\0", Some("shop"), &[])]
    #[case::name_among_attributes("OTEL_RESOURCE_ATTRIBUTES=service.name=shop,service.version=1.2\0", Some("shop"), &[("service.version", "1.2")])]
    #[case::name_wins("OTEL_RESOURCE_ATTRIBUTES=service.name=old\0OTEL_SERVICE_NAME=shop\0", Some("shop"), &[])]
    #[case::encoded("OTEL_RESOURCE_ATTRIBUTES=team=a%2Cb%20%C3%A9, deployment.environment.name = test ,\0", None, &[("team", "a,b é"), ("deployment.environment.name", "test")])]
    #[case::value_with_equals("OTEL_RESOURCE_ATTRIBUTES=query=a=b\0", None, &[("query", "a=b")])]
    #[case::empty("OTEL_SERVICE_NAME=\0OTEL_RESOURCE_ATTRIBUTES=\0", None, &[])]
    #[case::other_names_with_the_same_end("MY_OTEL_SERVICE_NAME=shop\0", None, &[])]
    #[case::first_counts("OTEL_SERVICE_NAME=shop\0OTEL_SERVICE_NAME=other\0", Some("shop"), &[])]
    #[case::overwritten_by_a_title("gunicorn: master [shop]\0\0\0\0E_NAME=x\0OTEL_SERVICE_NAME=shop", Some("shop"), &[])]
    fn a_service_is_described_by_its_environment(
        #[case] block: &str,
        #[case] name: Option<&str>,
        #[case] attributes: &[(&str, &str)],
    ) {
        let environment = Environment::parse(block.as_bytes());
        assert_eq!(environment.service_name.as_deref(), name);
        assert_eq!(environment.attributes, pairs(attributes));
        assert!(!environment.malformed);
    }

    #[rstest]
    #[case::no_value("service.name=shop,novalue")]
    #[case::no_key("service.name=shop,=value")]
    #[case::half_escape("service.name=shop,a=%2")]
    #[case::no_escape("service.name=shop,a=%zz")]
    #[case::no_utf8("service.name=shop,a=%ff")]
    fn malformed_attributes_are_discarded_completely(#[case] text: &str) {
        let environment = Environment::parse(format!("OTEL_RESOURCE_ATTRIBUTES={text}\0").as_bytes());
        assert_eq!(environment, Environment { malformed: true, ..Environment::default() });
    }

    #[test]
    fn very_long_attributes_are_discarded() {
        let block = |length| format!("OTEL_RESOURCE_ATTRIBUTES=a={}\0", "x".repeat(length));
        assert_eq!(Environment::parse(block(ATTRIBUTES_BYTES - 2).as_bytes()).attributes.len(), 1);
        assert!(Environment::parse(block(ATTRIBUTES_BYTES).as_bytes()).malformed);
    }

    #[test]
    fn other_variables_are_not_kept() {
        let block = b"AWS_SECRET_ACCESS_KEY=hunter2\0DATABASE_URL=postgres://u:p@h/d\0FLASK_APP=shop\0\xff\xfe\0=\0";
        let expected = Environment { runtime: vec![("FLASK_APP", "shop".to_owned())], ..Environment::default() };
        assert_eq!(Environment::parse(block), expected);
    }
}
