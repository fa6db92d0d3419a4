//! Who talked to whom: the attributes every protocol has of its connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use opentelemetry::Value;
use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, CLIENT_PORT, NETWORK_LOCAL_ADDRESS, NETWORK_LOCAL_PORT, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT,
    NETWORK_TRANSPORT, NETWORK_TYPE, SERVER_ADDRESS, SERVER_PORT,
};

use super::Attributes;
use crate::span::{Address, Ends, Role};

/// The name a connection was asked for, where the protocol tells one.
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

/// An end of the connection as attributes say it: one allocation, however often it is said.
struct End {
    address: Arc<str>,
    port: Option<u16>,
}

/// Sets `network.*`, `server.*` and, for a server, `client.*`.
///
/// `server.*` is what was asked for, if the protocol tells it, else the server's end of the connection. Over a unix
/// socket it is always the socket: the authority such a request carries names nobody (`localhost`, `docker`).
pub(super) fn describe(ends: &Ends, asked_for: Option<Authority<'_>>, attributes: &mut Attributes) {
    let local = end(&ends.local);
    let peer = end(&ends.peer);
    let (server, server_address) = match ends.role {
        Role::Client => (&peer, &ends.peer),
        Role::Server => (&local, &ends.local),
    };
    let by_name = asked_for.filter(|_| server.is_none() || matches!(server_address, Address::Inet(_)));
    match (by_name, server) {
        (Some(authority), _) => {
            attributes.set(SERVER_ADDRESS, authority.host.to_owned());
            set_port(SERVER_PORT, authority.port, attributes);
        }
        (None, Some(server)) => set_end(SERVER_ADDRESS, SERVER_PORT, server, attributes),
        (None, None) => {}
    }
    if let (Role::Server, Some(client)) = (ends.role, &peer) {
        set_end(CLIENT_ADDRESS, CLIENT_PORT, client, attributes);
    }
    if let Some(peer) = &peer {
        set_end(NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, peer, attributes);
    }
    if let Some(local) = &local {
        set_end(NETWORK_LOCAL_ADDRESS, NETWORK_LOCAL_PORT, local, attributes);
    }
    match (&ends.local, &ends.peer) {
        (Address::Inet(end), _) | (_, Address::Inet(end)) => {
            attributes.set(NETWORK_TRANSPORT, "tcp");
            attributes.set(NETWORK_TYPE, if end.ip().to_canonical().is_ipv4() { "ipv4" } else { "ipv6" });
        }
        (Address::Unix(_), _) | (_, Address::Unix(_)) => attributes.set(NETWORK_TRANSPORT, "unix"),
        (Address::Unknown, Address::Unknown) => {}
    }
}

/// The server's end of the connection as the authority of a URL; `None` for what a URL can't say.
pub(super) fn url_authority(ends: &Ends) -> Option<SocketAddr> {
    match match ends.role {
        Role::Client => &ends.peer,
        Role::Server => &ends.local,
    } {
        Address::Inet(address) => Some(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Address::Unix(_) | Address::Unknown => None,
    }
}

fn set_end(address: &'static str, port: &'static str, end: &End, attributes: &mut Attributes) {
    attributes.set(address, Value::from(Arc::clone(&end.address)));
    set_port(port, end.port, attributes);
}

fn set_port(key: &'static str, port: Option<u16>, attributes: &mut Attributes) {
    if let Some(port) = port {
        attributes.set(key, i64::from(port));
    }
}

/// `None` for an unnamed unix socket and for what is not known.
fn end(address: &Address) -> Option<End> {
    match address {
        Address::Inet(address) => Some(End { address: text(address.ip()), port: Some(address.port()) }),
        Address::Unix(path) if path.is_empty() => None,
        Address::Unix(path) => Some(End { address: path.as_str().into(), port: None }),
        Address::Unknown => None,
    }
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
fn text(ip: IpAddr) -> Arc<str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ipv4(ip),
        IpAddr::V6(ip) => ip.to_string().into(),
    }
}

/// As `Display` would, at a tenth of its time: two of these are written for every span.
fn ipv4(ip: Ipv4Addr) -> Arc<str> {
    let mut text = [0; "255.255.255.255".len()];
    let mut length = 0;
    let mut push = |byte| {
        text[length] = byte;
        length += 1;
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    str::from_utf8(&text[..length]).expect("digits and dots are ASCII").into()
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
            Role::Client => Ends { role, local: inet("10.0.0.1:50000"), peer: inet("10.0.0.2:8080") },
            Role::Server => Ends { role, local: inet("10.0.0.2:8080"), peer: inet("10.0.0.1:50000") },
        }
    }

    /// The attributes as `key=value`, in their order.
    pub(crate) fn said(attributes: &[opentelemetry::KeyValue]) -> Vec<String> {
        attributes.iter().map(|a| format!("{}={}", a.key, a.value)).collect()
    }

    fn described(ends: &Ends, asked_for: Option<Authority<'_>>) -> String {
        let mut attributes = Attributes::new();
        describe(ends, asked_for, &mut attributes);
        said(&attributes.0).join(" ")
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
    #[case::mapped(
        Ends { role: Role::Server, local: inet("[::ffff:10.0.0.2]:80"), peer: inet("[::ffff:10.0.0.1]:5") },
        "server.address=10.0.0.2 server.port=80 client.address=10.0.0.1 client.port=5 network.peer.address=10.0.0.1 \
         network.peer.port=5 network.local.address=10.0.0.2 network.local.port=80 network.transport=tcp \
         network.type=ipv4"
    )]
    #[case::ipv6(
        Ends { role: Role::Client, local: inet("[::1]:5"), peer: inet("[fe80::2]:80") },
        "server.address=fe80::2 server.port=80 network.peer.address=fe80::2 network.peer.port=80 \
         network.local.address=::1 network.local.port=5 network.transport=tcp network.type=ipv6"
    )]
    #[case::unix_client(
        Ends { role: Role::Client, local: Address::Unix("".into()), peer: Address::Unix("/run/db.sock".into()) },
        "server.address=/run/db.sock network.peer.address=/run/db.sock network.transport=unix"
    )]
    #[case::unix_server(
        Ends { role: Role::Server, local: Address::Unix("@abstract".into()), peer: Address::Unix("".into()) },
        "server.address=@abstract network.local.address=@abstract network.transport=unix"
    )]
    #[case::half_known(
        Ends { role: Role::Server, local: Address::Unknown, peer: inet("10.0.0.1:5") },
        "client.address=10.0.0.1 client.port=5 network.peer.address=10.0.0.1 network.peer.port=5 \
         network.transport=tcp network.type=ipv4"
    )]
    #[case::unknown(Ends { role: Role::Client, local: Address::Unknown, peer: Address::Unknown }, "")]
    fn each_end_is_said_as_far_as_it_is_known(#[case] ends: Ends, #[case] expected: &str) {
        assert_eq!(described(&ends, None), expected);
    }

    #[rstest]
    #[case("0.0.0.0")]
    #[case("9.10.99.100")]
    #[case("255.255.255.255")]
    #[case("127.0.0.1")]
    fn an_ipv4_address_is_written_as_ever(#[case] address: &str) {
        assert_eq!(&*ipv4(address.parse().unwrap()), address);
    }

    #[rstest]
    #[case::inet(tcp(Role::Client), "shop", Some(80))]
    #[case::unknown(Ends { role: Role::Server, local: Address::Unknown, peer: Address::Unknown }, "shop", Some(80))]
    #[case::unix(
        Ends { role: Role::Client, local: Address::Unix("".into()), peer: Address::Unix("/run/x".into()) },
        "/run/x",
        None
    )]
    #[case::unnamed_unix(
        Ends { role: Role::Client, local: Address::Unix("".into()), peer: Address::Unix("".into()) },
        "shop",
        Some(80)
    )]
    fn a_server_is_who_was_asked_for(#[case] ends: Ends, #[case] address: &str, #[case] port: Option<u16>) {
        let said = described(&ends, Some(Authority { host: "shop", port: Some(80) }));
        assert!(said.starts_with(&format!("server.address={address}")), "{said}");
        assert_eq!(said.contains("server.port=80"), port.is_some(), "{said}");
    }
}
