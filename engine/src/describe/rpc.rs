//! Remote procedure calls: <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/>.

use onlooker_protocols::facts::Rpc;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME};

/// The conventions rename it to `rpc.status_code` after 1.44.
const STATUS_CODE: &str = RPC_RESPONSE_STATUS_CODE;
/// How many messages each end sent. The conventions have no such attributes.
const ONLOOKER_REQUEST_MESSAGES: &str = "onlooker.rpc.request.messages";
const ONLOOKER_RESPONSE_MESSAGES: &str = "onlooker.rpc.response.messages";
/// The time that the client gave the call, in milliseconds.
const ONLOOKER_TIMEOUT: &str = "onlooker.rpc.timeout_ms";

use super::network::{self, Authority};
use super::outcome::Outcome;
use crate::model::span::{Description, Ends, Role};

pub(super) fn describe(facts: &Rpc, outcome: &Outcome, ends: &Ends, description: &mut Description) -> Status {
    let Description { name, attributes, .. } = description;
    name.push_str(if facts.method.is_empty() { facts.system } else { &facts.method });
    attributes.set(RPC_SYSTEM_NAME, facts.system);
    attributes.set_known(RPC_METHOD, &facts.method);
    let authority = (!facts.host.is_empty()).then(|| Authority::parse(&facts.host, None));
    network::describe(ends, authority, attributes);
    let counts = [
        (ONLOOKER_REQUEST_MESSAGES, facts.request_messages),
        (ONLOOKER_RESPONSE_MESSAGES, facts.response_messages),
        (ONLOOKER_TIMEOUT, facts.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok())),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            attributes.set_count(name, count);
        }
    }
    let Some(status) = &facts.status else { return outcome.settle(None, attributes) };
    attributes.set_known(STATUS_CODE, &status.code);
    let is_error = match ends.role {
        Role::Client => status.is_client_error,
        Role::Server => status.is_server_error,
    };
    let code = if status.code.is_empty() { "_OTHER" } else { &status.code };
    outcome.without_failure().settle(is_error.then_some(code), attributes)
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::facts::RpcStatus;
    use onlooker_protocols::{Direction, End, Facts, Moment, Reset};
    use rstest::rstest;

    use super::super::network::tests::tcp;
    use super::*;
    use crate::describe;

    fn described(facts: Rpc, role: Role) -> Description {
        describe::described(&describe::exchange(Facts::Rpc(Box::new(facts)), End::Complete), &tcp(role))
    }

    fn not_found() -> Rpc {
        let status = RpcStatus { code: "NOT_FOUND".into(), is_client_error: true, is_server_error: false };
        let (method, host) = ("shop.Cart/Get".into(), "cart:443".into());
        Rpc { system: "grpc", method, host, status: Some(status), ..Rpc::default() }
    }

    #[test]
    fn a_span_has_the_attributes_of_the_conventions() {
        let span = described(not_found(), Role::Client);
        assert_eq!((&*span.name, span.status), ("shop.Cart/Get", describe::outcome::error()));
        let said = span.attributes.said();
        assert_eq!(
            said[..4],
            ["rpc.system.name=grpc", "rpc.method=shop.Cart/Get", "server.address=cart", "server.port=443"]
        );
        assert_eq!(said[said.len() - 2..], ["rpc.response.status_code=NOT_FOUND", "error.type=NOT_FOUND"]);
    }

    #[rstest]
    #[case::mistake_of_the_caller(not_found(), Role::Server, false)]
    #[case::no_status(Rpc { status: None, ..not_found() }, Role::Client, false)]
    #[case::mistake_seen_by_the_caller(not_found(), Role::Client, true)]
    fn a_status_is_an_error_for_the_end_that_failed(#[case] facts: Rpc, #[case] role: Role, #[case] is_error: bool) {
        assert_eq!(described(facts, role).status == describe::outcome::error(), is_error);
    }

    #[test]
    fn the_messages_and_the_timeout_of_a_call_are_counted() {
        let timeout = Some(std::time::Duration::from_millis(250));
        let (request_messages, response_messages) = (Some(1), Some(3));
        let span = described(Rpc { request_messages, response_messages, timeout, ..not_found() }, Role::Server);
        let said = span.attributes.said();
        for attribute in
            ["onlooker.rpc.request.messages=1", "onlooker.rpc.response.messages=3", "onlooker.rpc.timeout_ms=250"]
        {
            assert!(said.iter().any(|it| it == attribute), "{attribute}: {said:?}");
        }
    }

    /// Cancelling is not an error of the server, and the code of HTTP/2 says less than that of the call.
    #[rstest]
    #[case::client(Role::Client, Some("CANCELLED"))]
    #[case::server(Role::Server, None)]
    fn a_cancelled_call_is_an_error_of_the_client_only(#[case] role: Role, #[case] error: Option<&str>) {
        let status = RpcStatus { code: "CANCELLED".into(), is_client_error: true, is_server_error: false };
        let reset = Reset { code: "CANCEL", by: Direction::ToServer };
        let facts = Facts::Rpc(Box::new(Rpc { status: Some(status), ..not_found() }));
        let span = describe::described(&describe::exchange(facts, End::Reset(reset, Moment::default())), &tcp(role));
        assert_eq!(span.attributes.text("error.type").as_deref(), error);
        assert_eq!(span.attributes.text("rpc.response.status_code").as_deref(), Some("CANCELLED"));
        assert_eq!(span.status == describe::outcome::error(), error.is_some());
    }

    #[test]
    fn a_call_of_an_unknown_method_is_named_after_the_system() {
        let span = described(Rpc { system: "grpc", ..Rpc::default() }, Role::Client);
        assert_eq!(span.name, "grpc");
        assert_eq!(span.attributes.text("server.address").as_deref(), Some("10.0.0.2"));
    }
}
