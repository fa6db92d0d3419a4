//! HTTP: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.

use std::borrow::Cow;
use std::env;
use std::sync::LazyLock;

use onlooker_protocols::http1::Http;
use opentelemetry::Value;
use opentelemetry_semantic_conventions::attribute::{
    HTTP_REQUEST_BODY_SIZE, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL, HTTP_RESPONSE_BODY_SIZE,
    HTTP_RESPONSE_STATUS_CODE, NETWORK_PROTOCOL_NAME, NETWORK_PROTOCOL_VERSION, URL_FULL, URL_PATH, URL_QUERY,
    URL_SCHEME, URL_TEMPLATE, USER_AGENT_ORIGINAL,
};

use super::network::Authority;
use super::outcome::Outcome;
use super::{Attributes, network};
use crate::route::{self, Holds, REDACTED, Routes};
use crate::span::{Description, Ends, Role};

/// Replaces the known methods; the name and the format are the conventions'.
const KNOWN_METHODS: &str = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";
static LISTED: LazyLock<Option<Methods>> =
    LazyLock::new(|| env::var(KNOWN_METHODS).ok().map(|list| Methods::of(&list)));

pub(super) fn describe(mut http: Http, outcome: &Outcome, ends: &Ends, routes: &mut Routes) -> Description {
    let mut attributes = Attributes::new();
    let method = match &*LISTED {
        None => known_method(&http.method),
        Some(methods) => methods.known(&http.method),
    };
    attributes.set(HTTP_REQUEST_METHOD, method.unwrap_or("_OTHER"));
    if method.is_none() {
        attributes.set_text(HTTP_REQUEST_METHOD_ORIGINAL, &*http.method);
    }

    let connect = http.method == "CONNECT";
    if http.path.is_empty() && !connect {
        // RFC 9110 4.2.3: the same resource.
        http.path.push('/');
    }
    let found = !matches!(http.status, Some(404));
    let route = routes.learn(ends.role, &http.path, found);
    if route.holds == Holds::Secret {
        http.path = route::redact(&http.path).into();
    }

    let scheme = scheme(&http.scheme);
    let (user_info, host) = http.host.rsplit_once('@').map_or(("", http.host.as_str()), |(user, host)| (user, host));
    let url = if ends.role == Role::Client { full_url(&http, scheme.as_str(), user_info, host, ends) } else { None };
    match url {
        Some(url) => attributes.set(URL_FULL, url),
        None => {
            if !http.path.is_empty() {
                attributes.set(URL_PATH, http.path.into_string());
            }
            attributes.set_text(URL_QUERY, http.query);
        }
    }
    let authority = (!host.is_empty()).then(|| authority(host, scheme.as_str()));
    network::describe(ends, authority, &mut attributes);
    attributes.set(URL_SCHEME, scheme);

    if let Some(template) = &route.template {
        attributes.set(URL_TEMPLATE, Value::from(std::sync::Arc::clone(template)));
    }
    attributes.set(NETWORK_PROTOCOL_NAME, "http");
    attributes.set(NETWORK_PROTOCOL_VERSION, if http.minor_version == 0 { "1.0" } else { "1.1" });
    attributes.set_text(USER_AGENT_ORIGINAL, http.user_agent);
    if let Some(size) = http.request_body {
        attributes.set_count(HTTP_REQUEST_BODY_SIZE, size);
    }
    if let Some(size) = http.response_body {
        attributes.set_count(HTTP_RESPONSE_BODY_SIZE, size);
    }
    if let Some(code) = http.status {
        attributes.set(HTTP_RESPONSE_STATUS_CODE, i64::from(code));
    }
    let status = outcome.settle(error_code(http.status, ends.role), &mut attributes);
    Description { name: name(method, route.template.as_deref()), status, attributes: attributes.0 }
}

/// `{method} {target}`; without a target of low cardinality the method alone, and `HTTP` for a method not known.
fn name(method: Option<&'static str>, template: Option<&str>) -> Cow<'static, str> {
    let method = method.unwrap_or("HTTP");
    match template {
        None => method.into(),
        Some(template) => {
            let mut name = String::with_capacity(method.len() + 1 + template.len());
            name.push_str(method);
            name.push(' ');
            name.push_str(template);
            name.into()
        }
    }
}

/// The status code, where it is an error: 4xx is the client's mistake, so no error of the server.
fn error_code(status: Option<u16>, role: Role) -> Option<String> {
    let first_error = match role {
        Role::Client => 400,
        Role::Server => 500,
    };
    status.filter(|code| *code >= first_error).map(|code| code.to_string())
}

/// Methods of RFC 9110, PATCH (RFC 5789) and QUERY (draft-ietf-httpbis-safe-method-w-body); case matters.
fn known_method(method: &str) -> Option<&'static str> {
    Some(match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "PATCH" => "PATCH",
        "QUERY" => "QUERY",
        _ => return None,
    })
}

/// The methods a user lists instead. They live as long as the agent, like the ones above.
struct Methods(Vec<&'static str>);

impl Methods {
    fn of(list: &str) -> Self {
        let methods = list.split(',').map(str::trim).filter(|m| !m.is_empty());
        Self(methods.map(|m| &*m.to_owned().leak()).collect())
    }

    fn known(&self, method: &str) -> Option<&'static str> {
        self.0.iter().find(|known| **known == method).copied()
    }
}

/// The scheme of the absolute form, else that of what was read: clear text.
fn scheme(sent: &str) -> opentelemetry::StringValue {
    if sent.is_empty() || sent.eq_ignore_ascii_case("http") {
        "http".into()
    } else if sent.eq_ignore_ascii_case("https") {
        "https".into()
    } else {
        sent.to_ascii_lowercase().into()
    }
}

/// Host and port of an authority without user information. No port is the scheme's default (RFC 9110 4.2.1), which
/// the conventions want said.
fn authority<'a>(host: &'a str, scheme: &str) -> Authority<'a> {
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    // `[::1]:8080` (RFC 3986 3.2.2); without brackets a second colon is no port's.
    let (name, rest) = match host.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some(bracketed) => bracketed,
        None => match host.find(':') {
            Some(at) if !host[at + 1..].contains(':') => host.split_at(at),
            _ => (host, ""),
        },
    };
    match rest.strip_prefix(':') {
        None | Some("") => Authority { host: name, port: default },
        Some(port) => match port.parse() {
            Ok(port) => Authority { host: name, port: Some(port) },
            Err(_) => Authority { host, port: None },
        },
    }
}

/// The URL as the client asked for it, without credentials; `None` if nobody is known to have been asked.
fn full_url(http: &Http, scheme: &str, user_info: &str, host: &str, ends: &Ends) -> Option<String> {
    let socket;
    let host = if host.is_empty() {
        socket = network::url_authority(ends)?.to_string();
        &socket
    } else {
        host
    };
    // RFC 9110 9.3.6: CONNECT asks for an authority, not for a resource; RFC 9112 3.2.4: the asterisk is no path.
    let connect = http.path.is_empty();
    let path = if http.path == "*" { "" } else { http.path.as_str() };
    let mut url = String::with_capacity(scheme.len() + 3 + host.len() + path.len() + 1 + http.query.len());
    if !connect {
        url.push_str(scheme);
        url.push(':');
    }
    url.push_str("//");
    if !user_info.is_empty() {
        url.push_str(REDACTED);
        if user_info.contains(':') {
            url.push(':');
            url.push_str(REDACTED);
        }
        url.push('@');
    }
    url.push_str(host);
    url.push_str(path);
    if !http.query.is_empty() {
        url.push('?');
        url.push_str(&http.query);
    }
    Some(url)
}
