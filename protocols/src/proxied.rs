//! The header of the PROXY protocol, by which a proxy names the client of a connection before the connection's own bytes.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 (text) and 2 (binary). It is no protocol of its
//! own: any protocol may follow it. The end that sends it is the client.
//!
//! ```
//! use onlooker_protocols::proxied::{Client, Header, Parsed, parse};
//!
//! let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
//! let wire = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
//! let client = Client::Inet("203.0.113.7:56324".parse()?);
//! assert_eq!(parse(&wire), Parsed::Header(Header { length: header.len() as u64, client: Some(client) }));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use compact_str::CompactString;

use crate::kit::looks::Looks;

/// A complete header, or so much of it that its length and client are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// All its bytes. The connection's own bytes follow them.
    pub length: u64,
    /// The client. `None` if the proxy does not name it: it speaks for itself (LOCAL, for example a health check), or the
    /// kind of address is unknown to it.
    pub client: Option<Client>,
}

/// The address of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    Inet(SocketAddr),
    /// The path of a unix socket. It is empty if the socket has no name, and starts with `@` if the name is abstract.
    Unix(CompactString),
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    Header(Header),
    /// They may be a header. Parse again with more of them.
    NeedMore,
    /// They are no header.
    NoHeader,
}

/// Section 2.1: the longest line, with its end.
const LONGEST_LINE: usize = 107;
const LINE_BEGIN: &[u8] = b"PROXY ";
/// Section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version with command, kind of addresses, and the length of the rest.
const FIXED_LENGTH: usize = SIGNATURE.len() + 4;
/// A path in an address.
const PATH_LENGTH: usize = 108;

/// Parses a header at the beginning of `bytes`, the first bytes of a connection.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    match (Looks::begins_with(bytes, LINE_BEGIN), Looks::begins_with(bytes, SIGNATURE)) {
        (Looks::Right, _) => line(bytes),
        (_, Looks::Right) => binary(bytes),
        (Looks::Wrong, Looks::Wrong) => Parsed::NoHeader,
        _ => Parsed::NeedMore,
    }
}

/// Version 1. Nothing else begins like it, but an invalid line is no header.
fn line(bytes: &[u8]) -> Parsed {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LONGEST_LINE)]) else {
        return if bytes.len() < LONGEST_LINE { Parsed::NeedMore } else { Parsed::NoHeader };
    };
    let words = bytes[LINE_BEGIN.len()..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(words) = words else { return Parsed::NoHeader };
    let length = end as u64 + 1;
    let mut words = words.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Parsed::Header(Header { length, client: None });
    }
    let (source, _, port) = (words.next(), words.next(), words.next());
    let address = match (family, source) {
        (Some("TCP4"), Some(source)) => source.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        (Some("TCP6"), Some(source)) => source.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    match (address, port.and_then(|port| port.parse().ok())) {
        (Some(address), Some(port)) => {
            let client = Some(Client::Inet(SocketAddr::new(address, port)));
            Parsed::Header(Header { length, client })
        }
        _ => Parsed::NoHeader,
    }
}

/// Reads the client of one address family.
type ReadClient = fn(&[u8]) -> Option<Client>;

/// Version 2. Additional values (TLVs) follow the addresses and are skipped.
fn binary(bytes: &[u8]) -> Parsed {
    const VERSION: u8 = 0x20;
    const LOCAL: u8 = 0;
    const PROXY: u8 = 1;
    const INET: u8 = 1;
    const INET6: u8 = 2;
    const UNIX: u8 = 3;
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_LENGTH>() else { return Parsed::NeedMore };
    let [.., command, family, high, low] = *fixed;
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = (FIXED_LENGTH + announced) as u64;
    let (size, read): (_, ReadClient) = match (command & 0xf, family >> 4) {
        _ if command & 0xf0 != VERSION => return Parsed::NoHeader,
        (LOCAL, _) => (0, |_| None),
        (PROXY, INET) => (2 * (4 + 2), inet),
        (PROXY, INET6) => (2 * (16 + 2), inet6),
        (PROXY, UNIX) => (2 * PATH_LENGTH, unix),
        // Section 2.2: other kinds are skipped, and other commands are refused.
        (PROXY, _) => (0, |_| None),
        _ => return Parsed::NoHeader,
    };
    if announced < size {
        return Parsed::NoHeader;
    }
    match rest.get(..size) {
        Some(addresses) => Parsed::Header(Header { length, client: read(addresses) }),
        None => Parsed::NeedMore,
    }
}

/// Source and destination, and their ports.
fn inet(addresses: &[u8]) -> Option<Client> {
    let source: [u8; 4] = *addresses.first_chunk()?;
    Some(Client::Inet(SocketAddr::new(source.into(), port(addresses, 8)?)))
}

fn inet6(addresses: &[u8]) -> Option<Client> {
    let source: [u8; 16] = *addresses.first_chunk()?;
    Some(Client::Inet(SocketAddr::new(source.into(), port(addresses, 32)?)))
}

fn port(addresses: &[u8], at: usize) -> Option<u16> {
    addresses.get(at..)?.first_chunk().map(|&port| u16::from_be_bytes(port))
}

/// Two paths. A path ends with a NUL. An abstract name begins with one.
fn unix(addresses: &[u8]) -> Option<Client> {
    let path = addresses.get(..PATH_LENGTH)?;
    let (mark, path) = match path.split_first() {
        Some((0, name)) => ("@", name),
        _ => ("", path),
    };
    let name = &path[..memchr::memchr(0, path).unwrap_or(path.len())];
    let mark = if name.is_empty() { "" } else { mark };
    Some(Client::Unix(mark.chars().chain(String::from_utf8_lossy(name).chars()).collect()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn inet_client(address: &str) -> Option<Client> {
        Some(Client::Inet(address.parse().unwrap()))
    }

    /// A header of version 2.
    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let fixed = [SIGNATURE, &[command, family][..], &(rest.len() as u16).to_be_bytes()].concat();
        [&fixed, rest].concat()
    }

    const TCP4: &[u8] = b"\xcb\x00\x71\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb";
    const TCP6: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xdc\x04\x01\xbb";
    /// ALPN `h2`, and a checksum.
    const TLVS: &[u8] = b"\x01\0\x02h2\x03\0\x04\x12\x34\x56\x78";

    fn paths(source: &[u8]) -> Vec<u8> {
        let mut paths = vec![0; 2 * PATH_LENGTH];
        paths[..source.len()].copy_from_slice(source);
        paths[PATH_LENGTH..PATH_LENGTH + 8].copy_from_slice(b"/run/svc");
        paths
    }

    fn path(path: &str) -> Option<Client> {
        Some(Client::Unix(path.into()))
    }

    #[rstest]
    #[case::tcp4(b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n".to_vec(), inet_client("203.0.113.7:56324"))]
    #[case::tcp6(b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), inet_client("[2001:db8::7]:56324"))]
    #[case::longest_tcp6(
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
        inet_client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
    )]
    #[case::unknown(b"PROXY UNKNOWN\r\n".to_vec(), None)]
    #[case::unknown_with_addresses(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None)]
    #[case::binary_tcp4(version_2(0x21, 0x11, TCP4), inet_client("203.0.113.7:56324"))]
    #[case::binary_tcp4_with_tlvs(version_2(0x21, 0x11, &[TCP4, TLVS].concat()), inet_client("203.0.113.7:56324"))]
    #[case::binary_udp4(version_2(0x21, 0x12, TCP4), inet_client("203.0.113.7:56324"))]
    #[case::binary_tcp6(version_2(0x21, 0x21, TCP6), inet_client("[2001:db8::7]:56324"))]
    #[case::binary_unix(version_2(0x21, 0x31, &paths(b"/run/client")), path("/run/client"))]
    #[case::binary_unix_abstract(version_2(0x21, 0x31, &paths(b"\0client")), path("@client"))]
    #[case::binary_unix_unnamed(version_2(0x21, 0x31, &paths(b"")), path(""))]
    #[case::binary_local(version_2(0x20, 0x00, b""), None)]
    #[case::binary_local_with_addresses(version_2(0x20, 0x11, TCP4), None)]
    #[case::binary_local_with_tlvs(version_2(0x20, 0x00, TLVS), None)]
    #[case::binary_unspecified(version_2(0x21, 0x00, b"anything"), None)]
    #[case::binary_unknown_family(version_2(0x21, 0x41, b"anything"), None)]
    fn a_header_names_the_client(#[case] header: Vec<u8>, #[case] client: Option<Client>) {
        let expected = Parsed::Header(Header { length: header.len() as u64, client });
        assert_eq!(parse(&[&header, &b"GET / HTTP/1.1\r\n"[..]].concat()), expected);
        for length in 0..header.len() {
            let parsed = parse(&header[..length]);
            // Of additional values only the length is needed.
            assert!(
                parsed == Parsed::NeedMore || (parsed == expected && length >= FIXED_LENGTH),
                "{length}: {parsed:?}"
            );
        }
    }

    #[rstest]
    #[case::http(b"POST / HTTP/1.1\r\n")]
    #[case::http_that_begins_alike(b"PROXY / HTTP/1.1\r\n")]
    #[case::http_behind_empty_lines(b"\r\n\r\nGET / HTTP/1.1\r\n")]
    #[case::redis(b"*1\r\n$4\r\nPING\r\n")]
    #[case::lower_case(b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n")]
    #[case::no_port(b"PROXY TCP4 1.2.3.4 5.6.7.8\r\n")]
    #[case::port_too_large(b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 1\r\n")]
    #[case::other_family(b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n")]
    #[case::bare_line_feed(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n")]
    #[case::not_text(b"PROXY TCP4 \xff 5.6.7.8 1 2\r\n")]
    #[case::too_long(&[b'x'; 200])]
    #[case::version_1_in_binary(b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c")]
    #[case::unknown_command(b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c")]
    #[case::too_short_for_its_addresses(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd")]
    fn other_bytes_are_no_header(#[case] bytes: &[u8]) {
        assert_eq!(parse(bytes), Parsed::NoHeader);
    }

    #[test]
    fn a_line_has_a_limit() {
        let line = [LINE_BEGIN, b"UNKNOWN ", &[b'x'; LONGEST_LINE]].concat();
        assert_eq!(parse(&line[..LONGEST_LINE - 1]), Parsed::NeedMore);
        assert_eq!(parse(&line), Parsed::NoHeader);
    }
}
