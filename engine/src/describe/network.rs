//! The attributes of the connection, which are the same for every protocol.

use std::net::{IpAddr, SocketAddr};

use compact_str::{CompactString, ToCompactString as _};
use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, CLIENT_PORT, NETWORK_LOCAL_ADDRESS, NETWORK_LOCAL_PORT, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT,
    NETWORK_TRANSPORT, NETWORK_TYPE, SERVER_ADDRESS, SERVER_PORT, TLS_PROTOCOL_VERSION,
};

use crate::model::attributes::Attributes;
use crate::model::span::{Address, Ends, Role};

/// The server that a request names, if the protocol has such a field.
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `host` or `host:port`, without user information. `default` is the port if none is named.
    pub(super) fn parse(authority: &'a str, default: Option<u16>) -> Self {
        // `[::1]:8080` (RFC 3986 3.2.2). Without brackets, two colons are part of an IPv6 address.
        let (name, rest) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some(bracketed) => bracketed,
            None => {
                let mut colons = authority.bytes().zip(0..).filter(|&(byte, _)| byte == b':');
                match (colons.next(), colons.next()) {
                    (Some((_, at)), None) => authority.split_at(at),
                    _ => (authority, ""),
                }
            }
        };
        match rest.strip_prefix(':') {
            None | Some("") => Self { host: name, port: default },
            Some(port) => match port.parse() {
                Ok(port) => Self { host: name, port: Some(port) },
                Err(_) => Self { host: authority, port: None },
            },
        }
    }
}

/// Sets `network.*`, `server.*` and, for a server, `client.*`.
///
/// `server.*` is the server that the request names, if it names one, else the server's end of the connection. Over a unix
/// socket it is always the socket: the name in such a request has no meaning (`localhost`, `docker`).
pub(super) fn describe(ends: &Ends, named: Option<Authority<'_>>, attributes: &mut Attributes) {
    let [server, others] = ends.described(attributes_of);
    match named {
        Some(Authority { host, port }) if !is_named_socket(ends.server()) => {
            attributes.set(SERVER_ADDRESS, host);
            set_port(SERVER_PORT, port, attributes);
        }
        _ => attributes.extend(server),
    }
    attributes.extend(others);
}

/// The attributes that all spans of the connection share: `server.*` of the server's end, and all others.
fn attributes_of(ends: &Ends) -> [Attributes; 2] {
    let [mut server, mut others] = <[Attributes; 2]>::default();
    let encryption = ends.encryption();
    match (encryption.and_then(|encryption| encryption.server_name.as_deref()), ends.server()) {
        (Some(name), Address::Inet(end)) => {
            server.set(SERVER_ADDRESS, name);
            set_port(SERVER_PORT, Some(end.port()), &mut server);
        }
        (_, end) => set_end(SERVER_ADDRESS, SERVER_PORT, end, &mut server),
    }
    if let Some(version) = encryption.and_then(|encryption| encryption.version) {
        others.set(TLS_PROTOCOL_VERSION, version);
    }
    if ends.role == Role::Server {
        set_end(CLIENT_ADDRESS, CLIENT_PORT, ends.client(), &mut others);
    }
    set_end(NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, &ends.peer, &mut others);
    set_end(NETWORK_LOCAL_ADDRESS, NETWORK_LOCAL_PORT, &ends.local, &mut others);
    match (&ends.local, &ends.peer) {
        (Address::Inet(end), _) | (_, Address::Inet(end)) => {
            others.set(NETWORK_TRANSPORT, if ends.is_datagram() { "udp" } else { "tcp" });
            others.set(NETWORK_TYPE, if end.ip().to_canonical().is_ipv4() { "ipv4" } else { "ipv6" });
        }
        (Address::Unix(_), _) | (_, Address::Unix(_)) => others.set(NETWORK_TRANSPORT, "unix"),
        (Address::Unknown, Address::Unknown) => {}
    }
    server.shrink();
    others.shrink();
    [server, others]
}

/// The server's end of the connection as the authority of a URL. `None` if no URL can name it.
pub(super) fn url_authority(ends: &Ends) -> Option<SocketAddr> {
    match ends.server() {
        Address::Inet(address) => Some(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Address::Unix(_) | Address::Unknown => None,
    }
}

fn is_named_socket(address: &Address) -> bool {
    matches!(address, Address::Unix(path) if !path.is_empty())
}

/// Sets nothing for a unix socket without a name, and for an unknown end.
fn set_end(address: &'static str, port: &'static str, end: &Address, attributes: &mut Attributes) {
    match end {
        Address::Inet(end) => {
            attributes.set(address, &text(end.ip()));
            set_port(port, Some(end.port()), attributes);
        }
        Address::Unix(path) => attributes.set_known(address, path),
        Address::Unknown => {}
    }
}

fn set_port(key: &'static str, port: Option<u16>, attributes: &mut Attributes) {
    if let Some(port) = port {
        attributes.set_count(key, port.into());
    }
}

/// IPv6 sockets have mapped addresses of IPv4 peers.
fn text(ip: IpAddr) -> CompactString {
    ip.to_canonical().to_compact_string()
}

#[cfg(test)]
pub(super) mod tests {
    use rstest::rstest;

    use super::*;

    pub(crate) fn inet(address: &str) -> Address {
        Address::Inet(address.parse().expect("a socket address"))
    }

    pub(crate) fn tcp(role: Role) -> Ends {
        match role {
            Role::Client => Ends::new(role, inet("10.0.0.1:50000"), inet("10.0.0.2:8080")),
            Role::Server => Ends::new(role, inet("10.0.0.2:8080"), inet("10.0.0.1:50000")),
        }
    }

    fn described(ends: &Ends, named: Option<Authority<'_>>) -> String {
        let mut attributes = Attributes::default();
        describe(ends, named, &mut attributes);
        attributes.said().join(" ")
    }

    #[rstest]
    #[case::client(
        tcp(Role::Client),
        "server.address=10.0.0.2 server.port=8080 network.peer.address=10.0.0.2 network.peer.port=8080 \
         network.local.address=10.0.0.1 network.local.port=50000 network.transport=tcp network.type=ipv4"
    )]
    #[case::server(
        tcp(Role::Server),
        "server.address=10.0.0.2 server.port=8080 client.address=10.0.0.1 client.port=50000 \
         network.peer.address=10.0.0.1 network.peer.port=50000 network.local.address=10.0.0.2 network.local.port=8080 \
         network.transport=tcp network.type=ipv4"
    )]
    #[case::server_behind_a_proxy(
        tcp(Role::Server).for_client(Some(inet("203.0.113.7:56324"))),
        "server.address=10.0.0.2 server.port=8080 client.address=203.0.113.7 client.port=56324 \
         network.peer.address=10.0.0.1 network.peer.port=50000 network.local.address=10.0.0.2 network.local.port=8080 \
         network.transport=tcp network.type=ipv4"
    )]
    #[case::server_behind_a_proxy_whose_client_has_a_unix_socket(
        Ends::new(Role::Server, Address::Unknown, inet("10.0.0.1:5")).for_client(Some(Address::Unix("@client".into()))),
        "client.address=@client network.peer.address=10.0.0.1 network.peer.port=5 network.transport=tcp network.type=ipv4"
    )]
    #[case::proxy(
        tcp(Role::Client).for_client(Some(inet("203.0.113.7:56324"))),
        "server.address=10.0.0.2 server.port=8080 network.peer.address=10.0.0.2 network.peer.port=8080 \
         network.local.address=10.0.0.1 network.local.port=50000 network.transport=tcp network.type=ipv4"
    )]
    #[case::mapped(
        Ends::new(Role::Server, inet("[::ffff:10.0.0.2]:80"), inet("[::ffff:10.0.0.1]:5")),
        "server.address=10.0.0.2 server.port=80 client.address=10.0.0.1 client.port=5 network.peer.address=10.0.0.1 \
         network.peer.port=5 network.local.address=10.0.0.2 network.local.port=80 network.transport=tcp \
         network.type=ipv4"
    )]
    #[case::ipv6(
        Ends::new(Role::Client, inet("[::1]:5"), inet("[fe80::2]:80")),
        "server.address=fe80::2 server.port=80 network.peer.address=fe80::2 network.peer.port=80 \
         network.local.address=::1 network.local.port=5 network.transport=tcp network.type=ipv6"
    )]
    #[case::unix_client(
        Ends::new(Role::Client, Address::Unix("".into()), Address::Unix("/run/db.sock".into())),
        "server.address=/run/db.sock network.peer.address=/run/db.sock network.transport=unix"
    )]
    #[case::unix_server(
        Ends::new(Role::Server, Address::Unix("@abstract".into()), Address::Unix("".into())),
        "server.address=@abstract network.local.address=@abstract network.transport=unix"
    )]
    #[case::half_known(
        Ends::new(Role::Server, Address::Unknown, inet("10.0.0.1:5")),
        "client.address=10.0.0.1 client.port=5 network.peer.address=10.0.0.1 network.peer.port=5 \
         network.transport=tcp network.type=ipv4"
    )]
    #[case::datagrams(
        Ends::of_datagrams(Role::Client, Address::Unknown, inet("10.0.0.2:53")),
        "server.address=10.0.0.2 server.port=53 network.peer.address=10.0.0.2 network.peer.port=53 \
         network.transport=udp network.type=ipv4"
    )]
    #[case::unknown(Ends::new(Role::Client, Address::Unknown, Address::Unknown), "")]
    fn each_end_is_described_as_far_as_it_is_known(#[case] ends: Ends, #[case] expected: &str) {
        assert_eq!(described(&ends, None), expected);
    }

    #[rstest]
    #[case::inet(tcp(Role::Client), "shop", Some(80))]
    #[case::unknown(Ends::new(Role::Server, Address::Unknown, Address::Unknown), "shop", Some(80))]
    #[case::unix(
        Ends::new(Role::Client, Address::Unix("".into()), Address::Unix("/run/x".into())),
        "/run/x",
        None
    )]
    #[case::unnamed_unix(
        Ends::new(Role::Client, Address::Unix("".into()), Address::Unix("".into())),
        "shop",
        Some(80)
    )]
    fn a_server_is_the_one_that_the_request_names(
        #[case] ends: Ends,
        #[case] address: &str,
        #[case] port: Option<u16>,
    ) {
        let said = described(&ends, Some(Authority { host: "shop", port: Some(80) }));
        assert!(said.starts_with(&format!("server.address={address}")), "{said}");
        assert_eq!(said.contains("server.port=80"), port.is_some(), "{said}");
    }
}
