//! HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.

use std::borrow::Cow;
use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use compact_str::{CompactString, ToCompactString as _};
use onlooker_protocols::facts::Http;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{
    HTTP_REQUEST_BODY_SIZE, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL, HTTP_RESPONSE_BODY_SIZE,
    HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, NETWORK_PROTOCOL_NAME, NETWORK_PROTOCOL_VERSION, URL_FULL, URL_PATH,
    URL_QUERY, URL_SCHEME, URL_TEMPLATE, USER_AGENT_ORIGINAL,
};

use super::network;
use super::network::Authority;
use super::outcome::Outcome;
use crate::model::attributes::Attributes;
use crate::model::span::{Description, Ends, Role};
use crate::route::{self, Holds, Routes};

/// A list that replaces the known methods. The conventions define name and format.
const KNOWN_METHODS: &str = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";
static LISTED: LazyLock<Option<Methods>> = LazyLock::new(|| {
    let list = env::var(KNOWN_METHODS).ok().filter(|_| !IS_ENVIRONMENT_IGNORED.load(Relaxed));
    list.and_then(|list| Methods::of(&list))
});
static IS_ENVIRONMENT_IGNORED: AtomicBool = AtomicBool::new(false);

/// Makes the variable of known methods have no effect, as a configuration file requires. To be called before anything is described.
pub fn ignore_environment() {
    IS_ENVIRONMENT_IGNORED.store(true, Relaxed);
}

pub(super) fn describe(
    http: &Http,
    outcome: &Outcome,
    ends: &Ends,
    routes: &mut Routes,
    description: &mut Description,
) -> Status {
    let Description { name, attributes, .. } = description;
    let is_known = match &*LISTED {
        None => is_known_method(&http.method),
        Some(methods) => methods.contain(&http.method),
    };
    // It is unknown if it was sent by reference to what passed unseen (HTTP/2).
    if !http.method.is_empty() {
        attributes.set(HTTP_REQUEST_METHOD, if is_known { &http.method } else { "_OTHER" });
    }
    if !is_known {
        attributes.set_known(HTTP_REQUEST_METHOD_ORIGINAL, &http.method);
    }

    let found = !matches!(http.status, Some(404));
    let route = routes.learn(ends.role, &http.path, found);
    name.push_str(if is_known { &http.method } else { "HTTP" });
    // Without a route the name is the method alone.
    if let Some(template) = route.template {
        name.extend([" ", template]);
    }

    let path: Cow<'_, str> = match route.holds {
        Holds::Secret => route::redact(&http.path).into(),
        Holds::NoSecret => http.path.as_str().into(),
    };
    let scheme = scheme(&http.scheme, ends);
    let is_path_unknown = http.path.is_empty() && http.method != "CONNECT";
    if ends.role == Role::Server || is_path_unknown || !set_full_url(http, &scheme, &path, ends, attributes) {
        attributes.set_known(URL_PATH, &path);
        attributes.set_known(URL_QUERY, &http.query);
    }
    let authority = (!http.host.is_empty()).then(|| authority(&http.host, &scheme));
    network::describe(ends, authority, attributes);
    attributes.set(URL_SCHEME, &scheme);

    if let Some(template) = route.template {
        if route.is_given && ends.role == Role::Server {
            attributes.set(HTTP_ROUTE, template);
        }
        attributes.set(URL_TEMPLATE, template);
    }
    attributes.set(NETWORK_PROTOCOL_NAME, "http");
    attributes.set(NETWORK_PROTOCOL_VERSION, http.version.as_str());
    // Opt-in for clients: the service is named by the resource.
    if ends.role == Role::Server {
        attributes.set_known(USER_AGENT_ORIGINAL, &http.user_agent);
    }
    if let Some(size) = http.request_body {
        attributes.set_count(HTTP_REQUEST_BODY_SIZE, size);
    }
    if let Some(size) = http.response_body {
        attributes.set_count(HTTP_RESPONSE_BODY_SIZE, size);
    }
    if let Some(code) = http.status {
        attributes.set_count(HTTP_RESPONSE_STATUS_CODE, code.into());
    }
    outcome.settle(error_code(http.status, ends.role).as_deref(), attributes)
}

/// The status code, if it is an error. 4xx is the client's mistake, so it is no error of the server.
fn error_code(status: Option<u16>, role: Role) -> Option<CompactString> {
    let first_error = match role {
        Role::Client => 400,
        Role::Server => 500,
    };
    status.filter(|code| *code >= first_error).map(|code| code.to_compact_string())
}

/// Methods of RFC 9110, PATCH (RFC 5789) and QUERY (draft-ietf-httpbis-safe-method-w-body); case matters.
fn is_known_method(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" | "QUERY")
}

/// The methods that the user lists.
struct Methods(Vec<String>);

impl Methods {
    /// `None` if the list is empty.
    fn of(list: &str) -> Option<Self> {
        let methods = list.split(',').map(str::trim).filter(|method| !method.is_empty());
        let methods: Vec<_> = methods.map(str::to_owned).collect();
        (!methods.is_empty()).then_some(Self(methods))
    }

    fn contain(&self, method: &str) -> bool {
        self.0.iter().any(|listed| listed == method)
    }
}

/// The scheme of the absolute form, else `http` or `https`.
fn scheme<'a>(sent: &'a str, ends: &Ends) -> Cow<'a, str> {
    if sent.is_empty() {
        if ends.encryption().is_some() { "https" } else { "http" }.into()
    } else if sent.bytes().any(|byte| byte.is_ascii_uppercase()) {
        sent.to_ascii_lowercase().into()
    } else {
        sent.into()
    }
}

/// Host and port of an authority. The default port is that of the scheme (RFC 9110 4.2.1).
fn authority<'a>(host: &'a str, scheme: &str) -> Authority<'a> {
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Authority::parse(host, default)
}

/// Sets the URL that the client requested. Returns false, and sets nothing, if the server is unknown or the path is none.
fn set_full_url(http: &Http, scheme: &str, path: &str, ends: &Ends, attributes: &mut Attributes) -> bool {
    let socket;
    let host = if http.host.is_empty() {
        let Some(authority) = network::url_authority(ends) else { return false };
        socket = authority.to_string();
        &socket
    } else {
        http.host.as_str()
    };
    let (scheme, mark, path) = match path {
        // RFC 9110 9.3.6: CONNECT asks for an authority, of no scheme.
        "" => ("", "//", ""),
        // RFC 9112 3.2.4: the asterisk is no path.
        "*" => (scheme, "://", ""),
        path if path.starts_with('/') => (scheme, "://", path),
        _ => return false,
    };
    let question = if http.query.is_empty() { "" } else { "?" };
    attributes.set_joined(URL_FULL, &[scheme, mark, host, path, question, &http.query]);
    true
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::facts::HttpVersion;
    use onlooker_protocols::http1::Http1;
    use onlooker_protocols::{Close, Direction, End, Exchange, Facts, Finding, Moment, Parser};
    use rstest::rstest;

    use super::super::network::tests::tcp;
    use super::*;
    use crate::model::span::Address;

    fn get(path: &str) -> Http {
        Http {
            method: "GET".into(),
            path: path.into(),
            host: "shop.example:8080".into(),
            status: Some(200),
            ..Http::default()
        }
    }

    fn described_at(http: Http, end: End, ends: &Ends) -> Description {
        let answered = http.status.map(|_| Moment::default());
        let exchange = Exchange {
            direction: Direction::ToServer,
            request_start: Moment::default(),
            request_end: Moment::default(),
            response_start: answered,
            response_end: answered,
            end,
            facts: Facts::Http(http),
        };
        super::super::described(&exchange, ends)
    }

    /// A framework's route is unknown, unless the user says it.
    #[test]
    fn a_pattern_of_the_user_is_the_route() {
        let pattern = route::PathPattern::parse("/shops/:shop/orders/*").unwrap();
        let reporting = crate::model::reporting::Reporting { routes: vec![pattern], ..Default::default() };
        let mut routes = Routes::new(std::sync::Arc::new(reporting));
        let mut described = |path: &str, role| {
            let exchange = super::super::exchange(Facts::Http(get(path)), End::Complete);
            let mut description = Description::default();
            super::super::describe(&exchange, &tcp(role), &mut routes, &mut description);
            let text = |key| description.attributes.text(key).map(|text| text.to_string());
            (description.name.clone(), text(HTTP_ROUTE), text(URL_TEMPLATE))
        };
        let pattern = || Some("/shops/:shop/orders/*".to_owned());
        let name = || "GET /shops/:shop/orders/*".to_owned();
        assert_eq!(described("/shops/eu/orders/7", Role::Server), (name(), pattern(), pattern()));
        // The conventions have the route on server spans only.
        assert_eq!(described("/shops/eu/orders/7", Role::Client), (name(), None, pattern()));
        let template = Some("/users/{id}".to_owned());
        assert_eq!(described("/users/7", Role::Server), ("GET /users/{id}".to_owned(), None, template));
    }

    fn described(http: Http, role: Role) -> Description {
        described_at(http, End::Complete, &tcp(role))
    }

    /// The value of `key`, empty if it isn't said.
    fn value(description: &Description, key: &str) -> String {
        let said = description.attributes.said();
        said.iter().find_map(|said| Some(said.strip_prefix(key)?.strip_prefix('=')?.to_owned())).unwrap_or_default()
    }

    #[test]
    fn a_server_span_has_what_the_conventions_require() {
        let span = described(
            Http {
                query: "page=REDACTED".into(),
                user_agent: "curl/7.88.1".into(),
                request_body: Some(0),
                response_body: Some(12),
                ..get("/users/7")
            },
            Role::Server,
        );
        assert_eq!(span.name, "GET /users/{id}");
        assert_eq!(span.status, Status::Unset);
        assert_eq!(
            span.attributes.said(),
            [
                "http.request.method=GET",
                "url.path=/users/7",
                "url.query=page=REDACTED",
                "server.address=shop.example",
                "server.port=8080",
                "client.address=10.0.0.1",
                "client.port=50000",
                "network.peer.address=10.0.0.1",
                "network.peer.port=50000",
                "network.local.address=10.0.0.2",
                "network.local.port=8080",
                "network.transport=tcp",
                "network.type=ipv4",
                "url.scheme=http",
                "url.template=/users/{id}",
                "network.protocol.name=http",
                "network.protocol.version=1.1",
                "user_agent.original=curl/7.88.1",
                "http.request.body.size=0",
                "http.response.body.size=12",
                "http.response.status_code=200",
            ]
        );
    }

    #[test]
    fn a_client_span_has_what_the_conventions_require() {
        let span = described(
            Http {
                query: "page=REDACTED".into(),
                user_agent: "curl/7.88.1".into(),
                version: HttpVersion::Http10,
                status: Some(404),
                ..get("/users/7")
            },
            Role::Client,
        );
        assert_eq!(span.name, "GET /users/{id}");
        assert_eq!(span.status, crate::describe::outcome::error());
        assert_eq!(
            span.attributes.said(),
            [
                "http.request.method=GET",
                "url.full=http://shop.example:8080/users/7?page=REDACTED",
                "server.address=shop.example",
                "server.port=8080",
                "network.peer.address=10.0.0.2",
                "network.peer.port=8080",
                "network.local.address=10.0.0.1",
                "network.local.port=50000",
                "network.transport=tcp",
                "network.type=ipv4",
                "url.scheme=http",
                "url.template=/users/{id}",
                "network.protocol.name=http",
                "network.protocol.version=1.0",
                "http.response.status_code=404",
                "error.type=404",
            ]
        );
    }

    #[rstest]
    #[case::success(200, Role::Client, "")]
    #[case::redirect(302, Role::Client, "")]
    #[case::not_modified(304, Role::Client, "")]
    #[case::client_error(404, Role::Client, "404")]
    #[case::client_error_is_not_the_server_s(404, Role::Server, "")]
    #[case::server_error(503, Role::Client, "503")]
    #[case::server_error(500, Role::Server, "500")]
    #[case::out_of_range(999, Role::Server, "999")]
    fn a_status_code_is_an_error_at_the_end_that_failed(#[case] code: u16, #[case] role: Role, #[case] error: &str) {
        let span = described(Http { status: Some(code), ..get("/") }, role);
        assert_eq!(value(&span, "error.type"), error);
        assert_eq!(value(&span, "http.response.status_code"), code.to_string());
        assert_eq!(span.status, if error.is_empty() { Status::Unset } else { crate::describe::outcome::error() });
    }

    #[rstest]
    #[case::known("GET", "GET /a", "GET", "")]
    #[case::patch("PATCH", "PATCH /a", "PATCH", "")]
    #[case::query("QUERY", "QUERY /a", "QUERY", "")]
    #[case::case_matters("GeT", "HTTP /a", "_OTHER", "GeT")]
    #[case::lower_case("get", "HTTP /a", "_OTHER", "get")]
    #[case::webdav("PROPFIND", "HTTP /a", "_OTHER", "PROPFIND")]
    fn a_method_is_known_or_other(
        #[case] sent: &str,
        #[case] name: &str,
        #[case] method: &str,
        #[case] original: &str,
    ) {
        let span = described(Http { method: sent.into(), ..get("/a") }, Role::Server);
        assert_eq!(span.name, name);
        assert_eq!(value(&span, "http.request.method"), method);
        assert_eq!(value(&span, "http.request.method_original"), original);
    }

    #[test]
    fn listed_methods_replace_the_known_ones() {
        let methods = Methods::of("PROPFIND, get,,").unwrap();
        assert!(methods.contain("PROPFIND"));
        assert!(methods.contain("get"));
        assert!(!methods.contain("GET"));
        assert!(!methods.contain(""));
        for nothing in ["", " ", ","] {
            assert!(Methods::of(nothing).is_none(), "{nothing:?} replaces nothing");
        }
    }

    #[rstest]
    #[case::port("shop.example:8080", "http", "shop.example", Some(8080))]
    #[case::default_port("shop.example", "http", "shop.example", Some(80))]
    #[case::default_port_tls("shop.example", "https", "shop.example", Some(443))]
    #[case::default_port_unknown("shop.example", "ws", "shop.example", None)]
    #[case::empty_port("shop.example:", "http", "shop.example", Some(80))]
    #[case::ipv6("[::1]:8080", "http", "::1", Some(8080))]
    #[case::ipv6_default("[::1]", "http", "::1", Some(80))]
    #[case::ipv6_bare("::1", "http", "::1", Some(80))]
    #[case::not_a_port("shop:http", "http", "shop:http", None)]
    #[case::too_large_a_port("shop:65536", "http", "shop:65536", None)]
    #[case::unclosed("[::1", "http", "[::1", Some(80))]
    fn an_authority_is_host_and_port(
        #[case] host: &str,
        #[case] scheme: &str,
        #[case] name: &str,
        #[case] port: Option<u16>,
    ) {
        let authority = authority(host, scheme);
        assert_eq!((authority.host, authority.port), (name, port));
    }

    #[rstest]
    #[case::origin_form(get("/a"), "http://shop.example:8080/a")]
    #[case::absolute_form(Http { scheme: "HTTPS".into(), ..get("/a") }, "https://shop.example:8080/a")]
    #[case::asterisk(Http { method: "OPTIONS".into(), ..get("*") }, "http://shop.example:8080")]
    #[case::connect(Http { method: "CONNECT".into(), ..get("") }, "//shop.example:8080")]
    #[case::no_host(Http { host: "".into(), ..get("/a") }, "http://10.0.0.2:8080/a")]
    #[case::token(get("/reset/9fceb02d0ae598e95dc970b74767f193"), "http://shop.example:8080/reset/REDACTED")]
    #[case::not_a_path(get("nonsense"), "")]
    fn a_url_is_the_requested_one_without_credentials(#[case] http: Http, #[case] url: &str) {
        let span = described(http, Role::Client);
        assert_eq!(value(&span, "url.full"), url);
    }

    #[test]
    fn without_an_authority_the_parts_of_the_url_are_set() {
        let ends = Ends::new(Role::Client, Address::Unknown, Address::Unknown);
        let http = Http { host: "".into(), query: "q=REDACTED".into(), ..get("/a") };
        let span = described_at(http, End::Complete, &ends);
        assert_eq!(value(&span, "url.full"), "");
        assert_eq!(value(&span, "url.path"), "/a");
        assert_eq!(value(&span, "url.query"), "q=REDACTED");
        assert_eq!(value(&span, "server.address"), "");
    }

    #[test]
    fn no_secret_of_a_request_is_in_its_span() {
        let request =
            b"GET http://bob:hunter2@shop.example/reset/9fceb02d0ae598e95dc970b74767f193;jsessionid=1A5306?key=S3CR3T \
            HTTP/1.1\r\nHost: ignored\r\nAuthorization: Bearer T0K3N\r\nCookie: id=C00K13\r\n\r\n";
        let mut parser = Http1::new(true);
        let mut found = Vec::new();
        parser.bytes(Direction::ToServer, request, Moment::default(), &mut found).expect("a request");
        parser
            .bytes(
                Direction::ToClient,
                b"HTTP/1.1 204 No Content\r\n\r\n",
                Moment { run: 1, ..Moment::default() },
                &mut found,
            )
            .expect("a response");
        let Some(Finding::Exchange(exchange)) = found.pop() else { panic!("{found:?}") };
        for role in [Role::Client, Role::Server] {
            let span = super::super::described(&exchange, &tcp(role));
            let all = format!("{} {}", span.name, span.attributes.said().join(" "));
            for secret in ["bob", "hunter2", "9fceb", "1A5306", "S3CR3T", "T0K3N", "C00K13"] {
                assert!(!all.contains(secret), "{secret} in {all}");
            }
            assert_eq!(span.name, "GET /reset/{token}");
        }
        let span = super::super::described(&exchange, &tcp(Role::Client));
        let url = "http://shop.example/reset/REDACTED;jsessionid=REDACTED?key=REDACTED";
        assert_eq!(value(&span, "url.full"), url);
    }

    /// In HTTP/2 a field may refer to one that passed unseen.
    #[test]
    fn unknown_parts_of_a_request_are_left_out() {
        for role in [Role::Client, Role::Server] {
            let span = described(Http { method: "".into(), path: "".into(), ..get("") }, role);
            assert_eq!(span.name, "HTTP");
            for key in ["http.request.method", "http.request.method_original", "url.path", "url.full", "url.template"] {
                assert_eq!(value(&span, key), "", "{key}");
            }
            assert_eq!(value(&span, "server.address"), "shop.example");
        }
    }

    #[rstest]
    #[case::asterisk("OPTIONS", "*", "OPTIONS")]
    #[case::connect("CONNECT", "", "CONNECT")]
    #[case::root("GET", "/", "GET /")]
    #[case::token("GET", "/reset/9fceb02d0ae598e95dc970b74767f193", "GET /reset/{token}")]
    fn a_name_has_the_route_if_there_is_one(#[case] method: &str, #[case] path: &str, #[case] name: &str) {
        let span = described(Http { method: method.into(), ..get(path) }, Role::Server);
        assert_eq!(span.name, name);
        assert!(!value(&span, "url.path").contains("9fce"));
    }

    #[test]
    fn a_request_without_a_response_has_an_error_and_no_status_code() {
        let http = Http { status: None, response_body: None, ..get("/slow") };
        let end = End::Closed(Close::Normal, Moment::default());
        let span = described_at(http, end, &tcp(Role::Server));
        assert_eq!(value(&span, "http.response.status_code"), "");
        assert_eq!(value(&span, "error.type"), "connection_closed");
        assert_eq!(span.status, Status::error("the connection was closed before a response"));
    }

    #[test]
    fn a_response_cut_short_keeps_its_status_code_and_has_an_error() {
        let end = End::Closed(Close::Error(crate::model::errno::ECONNRESET), Moment::default());
        let span = described_at(Http { response_body: Some(4096), ..get("/download") }, end, &tcp(Role::Server));
        assert_eq!(value(&span, "http.response.status_code"), "200");
        assert_eq!(value(&span, "http.response.body.size"), "4096");
        assert_eq!(value(&span, "error.type"), "connection_reset");
        assert_eq!(span.status, Status::error("the connection was reset"));
    }
}
