//! One call, from the head of its request to its status.

use std::time::Duration;

use super::base64;
use super::connect;
use super::ending::{Ending, Text};
use super::flavor::Flavor;
use super::messages::Messages;
use super::status::Status;
use crate::exchange::Reset;
use crate::facts::{Rpc, RpcStatus};
use crate::kit::pieces::Content;
use crate::kit::target;
use crate::moment::Direction;

/// What is kept of an error in the body of a response.
const KEPT_ERROR: usize = 256;

/// A call that is on its way.
#[derive(Debug)]
pub(crate) struct Call {
    flavor: Flavor,
    timeout: Option<Duration>,
    request: Messages,
    response: Messages,
    /// What decodes the bodies, if they are in base64.
    letters: Option<Box<[base64::Decoder; 2]>>,
    /// The status of the response in HTTP.
    http_status: Option<u16>,
    /// The beginning of an error in the response of a unary call of Connect.
    error: Vec<u8>,
    status: Option<Status>,
}

/// The status that a header block names, of a response or its trailers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trailers {
    status: Option<Status>,
}

impl Trailers {
    /// The value of the field `grpc-status`.
    pub(crate) fn set(&mut self, grpc_status: &[u8]) {
        self.status = self.status.or(Status::of_field(grpc_status));
    }
}

impl Call {
    pub(crate) fn new(flavor: Flavor, timeout: Option<Duration>) -> Self {
        Self {
            flavor,
            timeout,
            request: Messages::new(flavor.has_prefixes(), None),
            response: Messages::new(flavor.has_prefixes(), flavor.end_flag()),
            letters: (flavor == Flavor::GrpcWebText).then(Box::default),
            http_status: None,
            error: Vec::new(),
            status: None,
        }
    }

    /// The facts in the head of its request. `path` is `/`, the service, `/` and the method.
    pub(crate) fn facts(&self, path: &[u8], host: compact_str::CompactString) -> Rpc {
        let path = &path[..memchr::memchr(b'?', path).unwrap_or(path.len())];
        let method = path.strip_prefix(b"/").unwrap_or_default();
        // Servers of Connect and gRPC-Web may be mounted below a path. The last two segments are the method's name.
        let mut slashes = memchr::memrchr_iter(b'/', method);
        let method = &method[slashes.nth(1).map_or(0, |slash| slash + 1)..];
        Rpc {
            system: self.flavor.system(),
            method: target::name(method),
            host,
            timeout: self.timeout,
            ..Rpc::default()
        }
    }

    /// The head of the final response has passed.
    pub(crate) fn respond(&mut self, http_status: Option<u16>) {
        self.http_status = http_status;
    }

    /// More of a body passes.
    pub(crate) fn pass(&mut self, direction: Direction, content: Content<'_>) {
        let is_refused = self.refused().is_some();
        let messages = match direction {
            Direction::ToServer => &mut self.request,
            Direction::ToClient => &mut self.response,
        };
        match (self.flavor, content) {
            (Flavor::ConnectUnary, _) if direction == Direction::ToServer || !is_refused => {}
            (Flavor::ConnectUnary, Content::Bytes(bytes)) => {
                let room = KEPT_ERROR.saturating_sub(self.error.len());
                self.error.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            (Flavor::ConnectUnary, Content::Hole(_)) => self.error = vec![b' '; KEPT_ERROR],
            (Flavor::GrpcWebText, Content::Hole(1..)) => messages.lose(),
            (Flavor::GrpcWebText, Content::Bytes(letters)) => {
                if let Some(decoders) = &mut self.letters
                    && !decoders[direction as usize].pass(letters, |bytes| messages.pass(Content::Bytes(bytes)))
                {
                    messages.lose();
                }
            }
            _ => messages.pass(content),
        }
    }

    /// The status of HTTP, if it says that the call failed.
    fn refused(&self) -> Option<u16> {
        self.http_status.filter(|&status| status != 200)
    }

    /// Some of a body passed unseen, of unknown length.
    pub(crate) fn lose(&mut self, direction: Direction) {
        match direction {
            Direction::ToServer => self.request.lose(),
            Direction::ToClient => self.response.lose(),
        }
    }

    /// A header block of the response has passed.
    pub(crate) fn trailers(&mut self, trailers: Trailers) {
        self.status = trailers.status.or(self.status);
    }

    /// Completes the facts of a call that is over. `lasted`: from the beginning of its request to the reset.
    pub(crate) fn finish(&self, rpc: &mut Rpc, reset: Option<(Reset, Duration)>) {
        rpc.request_messages = self.request.count();
        rpc.response_messages = self.response.count();
        let is_refused = self.refused();
        let end = || self.response.end().map(Ending::text);
        let in_body = || match self.flavor {
            Flavor::GrpcWeb | Flavor::GrpcWebText => status_line(&end()?),
            Flavor::ConnectStreaming => connect::end_of_stream(&end()?),
            Flavor::ConnectUnary => connect::code(&self.error),
            Flavor::Grpc => None,
        };
        let status = self
            .status
            .or_else(in_body)
            .or_else(|| reset.map(|(reset, lasted)| self.of_reset(reset, lasted)))
            // A unary error of Connect whose body was not captured has an unknown code.
            .or_else(|| is_refused.filter(|_| self.flavor != Flavor::ConnectUnary).map(Status::of_http));
        rpc.status = match status {
            Some(status) => status.fact(self.flavor.is_connect()),
            None => is_refused.map(|status| RpcStatus {
                code: "".into(),
                is_client_error: true,
                is_server_error: status >= 500,
            }),
        };
    }

    /// The status of a call that one end gave up. A client that gives up after its time has run out, did so for that reason.
    fn of_reset(&self, reset: Reset, lasted: Duration) -> Status {
        match Status::of_reset(reset.code) {
            Status::CANCELLED if reset.by == Direction::ToServer && self.has_run_out(lasted) => {
                Status::DEADLINE_EXCEEDED
            }
            status => status,
        }
    }

    /// Clients round the timeout that they send up, by one part in a hundred at most.
    fn has_run_out(&self, lasted: Duration) -> bool {
        const SLACK: Duration = Duration::from_millis(2);
        self.timeout.is_some_and(|timeout| lasted + timeout / 64 + SLACK >= timeout)
    }
}

/// The status in the last message of gRPC-Web, which has the form of HTTP/1 fields.
fn status_line(fields: &Text<'_>) -> Option<Status> {
    const NAME: &[u8] = b"grpc-status:";
    // The last line may be cut.
    let whole = if fields.is_whole { fields.bytes.len() } else { memchr::memrchr(b'\n', &fields.bytes)? };
    fields.bytes[..whole].split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| Status::of_field(value.trim_ascii())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CANCEL: Reset = Reset { code: "CANCEL", by: Direction::ToServer };

    fn finished(call: &Call, reset: Option<(Reset, Duration)>) -> Rpc {
        let mut rpc = call.facts(b"/shop.Cart/Get", "".into());
        call.finish(&mut rpc, reset);
        rpc
    }

    fn answered(flavor: Flavor, http_status: Option<u16>) -> Call {
        let mut call = Call::new(flavor, None);
        call.respond(http_status);
        call
    }

    fn code(rpc: &Rpc) -> &str {
        rpc.status.as_ref().map_or("", |status| &status.code)
    }

    #[rstest]
    #[case("/shop.Cart/Get", "shop.Cart/Get")]
    #[case("/api/v1/shop.Cart/Get", "shop.Cart/Get")]
    #[case("", "")]
    #[case("/shop.Cart/Get?token=s3cret/s3cret", "shop.Cart/Get")]
    fn a_method_is_named_with_its_service(#[case] path: &str, #[case] method: &str) {
        assert_eq!(Call::new(Flavor::Grpc, None).facts(path.as_bytes(), "".into()).method, method);
    }

    #[test]
    fn trailers_outrank_everything_else() {
        let mut call = answered(Flavor::Grpc, Some(200));
        let mut trailers = Trailers::default();
        trailers.set(b"5");
        call.trailers(trailers);
        assert_eq!(code(&finished(&call, Some((CANCEL, Duration::ZERO)))), "NOT_FOUND");
    }

    #[rstest]
    #[case::unknown(Some(200), "")]
    #[case::proxy(Some(503), "UNAVAILABLE")]
    #[case::no_response(None, "")]
    fn without_trailers_the_status_is_that_of_http(#[case] http: Option<u16>, #[case] name: &str) {
        assert_eq!(code(&finished(&answered(Flavor::Grpc, http), None)), name);
    }

    #[rstest]
    #[case::before_the_timeout(500, "CANCELLED")]
    #[case::after_the_timeout(1000, "DEADLINE_EXCEEDED")]
    #[case::a_rounded_timeout(990, "DEADLINE_EXCEEDED")]
    fn a_client_gives_up_by_itself_or_for_the_time(#[case] lasted: u64, #[case] name: &str) {
        let call = Call::new(Flavor::Grpc, Some(Duration::from_secs(1)));
        let rpc = finished(&call, Some((CANCEL, Duration::from_millis(lasted))));
        assert_eq!(code(&rpc), name);
        assert_eq!(rpc.status.map(|status| status.is_server_error), Some(name == "DEADLINE_EXCEEDED"));
    }

    #[test]
    fn the_server_s_reset_is_a_status_too() {
        let reset = Reset { code: "REFUSED_STREAM", by: Direction::ToClient };
        assert_eq!(code(&finished(&answered(Flavor::Grpc, None), Some((reset, Duration::ZERO)))), "UNAVAILABLE");
    }

    #[rstest]
    #[case::binary(Flavor::GrpcWeb, b"\0\0\0\0\x01a\x80\0\0\0\x10Grpc-Status: 5\r\n", "NOT_FOUND")]
    #[case::in_base64(Flavor::GrpcWebText, b"AAAAAAFhgAAAABBHcnBjLVN0YXR1czogNQ0K", "NOT_FOUND")]
    #[case::in_two_parts(Flavor::GrpcWebText, b"AAAAAAFhgAAAABA=R3JwYy1TdGF0dXM6IDUNCg==", "NOT_FOUND")]
    #[case::cut(Flavor::GrpcWeb, b"\0\0\0\0\x01a\x80\0\0\0\x11Grpc-Status: 1", "")]
    fn the_last_message_of_grpc_web_has_the_status(#[case] flavor: Flavor, #[case] body: &[u8], #[case] name: &str) {
        let mut call = answered(flavor, Some(200));
        body.chunks(5).for_each(|part| call.pass(Direction::ToClient, Content::Bytes(part)));
        let rpc = finished(&call, None);
        assert_eq!((code(&rpc), rpc.response_messages), (name, Some(1)));
    }

    #[test]
    fn a_hole_in_base64_hides_the_messages() {
        let mut call = answered(Flavor::GrpcWebText, Some(200));
        call.pass(Direction::ToClient, Content::Bytes(b"AAAAAAFh"));
        call.pass(Direction::ToClient, Content::Hole(4));
        assert_eq!(finished(&call, None).response_messages, None);
    }

    #[rstest]
    #[case::success(200, "", "", None)]
    #[case::error(404, r#"{"code":"not_found"}"#, "not_found", Some(true))]
    #[case::body_of_a_proxy(503, "<html>", "", Some(true))]
    fn a_unary_call_of_connect_has_its_code_in_the_body(
        #[case] http: u16,
        #[case] body: &str,
        #[case] name: &str,
        #[case] is_error: Option<bool>,
    ) {
        let mut call = answered(Flavor::ConnectUnary, Some(http));
        call.pass(Direction::ToClient, Content::Bytes(body.as_bytes()));
        let rpc = finished(&call, None);
        assert_eq!((code(&rpc), rpc.system), (name, "connectrpc"));
        assert_eq!(rpc.status.map(|status| status.is_client_error), is_error);
    }
}
