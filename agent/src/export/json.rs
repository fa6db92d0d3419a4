//! OTLP as JSON, converted from the protobuf request, so that both have the same content.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// An encoded `ExportTraceServiceRequest` as one line of JSON, by the OTLP rules: ids in hex, 64-bit numbers as strings,
/// enumerations as numbers, names in lowerCamelCase.
pub(super) fn from_protobuf(request: &[u8]) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(request).expect("the agent encoded it");
    serde_json::to_vec(&request).expect("all maps have string keys, and writing to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::Status;
    use serde_json::{Value, json};

    use super::*;
    use crate::export::encode::encode;
    use onlooker_engine::model::span::Span;
    use onlooker_engine::testing::{EPOCH, from_elsewhere, service, span};

    #[test]
    fn json_follows_the_rules_of_otlp() {
        let span =
            Span { parent: from_elsewhere(0xabc), status: Status::error("500"), ..span(0xfeed, &service("shop")) };
        let line = from_protobuf(&encode(&[span]));
        assert!(!line.contains(&b'\n'), "one request is one line");
        let written: Value = serde_json::from_slice(&line).unwrap();
        let resource = &written["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][0],
            json!({"key": "service.name", "value": {"stringValue": "shop"}})
        );
        let scope = &resource["scopeSpans"][0];
        assert_eq!(scope["scope"]["name"], "onlooker");
        let span = &scope["spans"][0];
        assert_eq!(span["traceId"], "00000000000000000000000000000001");
        assert_eq!(span["spanId"], "000000000000feed");
        assert_eq!(span["parentSpanId"], "0000000000000abc");
        assert_eq!(span["startTimeUnixNano"], EPOCH.to_string());
        assert_eq!(span["kind"], 2);
        assert_eq!(span["status"], json!({"code": 2, "message": "500"}));
        assert_eq!(span["flags"], 0x301);
        assert_eq!(span["attributes"][0], json!({"key": "http.response.status_code", "value": {"intValue": "200"}}));
        assert_eq!(span["attributes"][1], json!({"key": "onlooker.parent.evidence", "value": {"stringValue": "wire"}}));
    }
}
