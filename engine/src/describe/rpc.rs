//! Remote procedure calls: <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/>.

use onlooker_protocols::facts::Rpc;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME};

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
    let Some(status) = &facts.status else { return outcome.settle(None, attributes) };
    attributes.set_known(RPC_RESPONSE_STATUS_CODE, &status.code);
    let is_error = match ends.role {
        Role::Client => status.is_client_error,
        Role::Server => status.is_server_error,
    };
    outcome.settle(is_error.then_some(&*status.code), attributes)
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::facts::RpcStatus;
    use onlooker_protocols::{End, Facts};
    use rstest::rstest;

    use super::super::network::tests::tcp;
    use super::*;
    use crate::describe;

    fn described(facts: Rpc, role: Role) -> Description {
        describe::described(&describe::exchange(Facts::Rpc(Box::new(facts)), End::Complete), &tcp(role))
    }

    fn not_found() -> Rpc {
        let status = RpcStatus { code: "NOT_FOUND".into(), is_client_error: true, is_server_error: false };
        Rpc { system: "grpc", method: "shop.Cart/Get".into(), host: "cart:443".into(), status: Some(status) }
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
    fn a_call_of_an_unknown_method_is_named_after_the_system() {
        let span = described(Rpc { system: "grpc", ..Rpc::default() }, Role::Client);
        assert_eq!(span.name, "grpc");
        assert_eq!(span.attributes.text("server.address").as_deref(), Some("10.0.0.2"));
    }
}
