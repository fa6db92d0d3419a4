//! OTLP as JSON: the protobuf request turned over, so that both say the same.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// An encoded `ExportTraceServiceRequest` as one line of JSON, by the OTLP rules: ids in hex, 64-bit numbers as strings,
/// enumerations as numbers, names in lowerCamelCase.
pub(super) fn from_protobuf(request: &[u8]) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(request).expect("we encoded it");
    serde_json::to_vec(&request).expect("its maps have string keys, and memory takes all writes")
}
