//! Reads the first messages of a TLS handshake, which are not encrypted (RFC 8446 4.1): the server's name from the client's,
//! the version from the server's.

use compact_str::CompactString;

use crate::model::span::Encryption;
use crate::order::Way;

/// Bytes of a message that are looked at. The name of the server is near the beginning of its message.
const MAX_BYTES: usize = 1 << 10;

/// RFC 8446 B.1, B.3, 4.2; RFC 6066 3.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
const HOST_NAME: u8 = 0;
/// A name of the DNS is not longer.
const LONGEST_NAME: usize = 253;

/// The first message of each way, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Hellos {
    messages: [Vec<u8>; 2],
    encryption: Encryption,
}

impl Hellos {
    /// Whether the bytes may be the beginning of a handshake.
    #[inline]
    pub(crate) fn begin_with(bytes: &[u8]) -> bool {
        matches!(bytes, [HANDSHAKE, 3, ..])
    }

    /// Takes the next bytes of a way.
    pub(crate) fn take(&mut self, way: Way, bytes: &[u8]) {
        let message = &mut self.messages[way as usize];
        if message.len() >= MAX_BYTES || (message.is_empty() && !Self::begin_with(bytes)) {
            return;
        }
        message.extend_from_slice(&bytes[..bytes.len().min(MAX_BYTES - message.len())]);
        read(message, &mut self.encryption);
    }

    pub(crate) fn encryption(&self) -> &Encryption {
        &self.encryption
    }
}

/// A part of a message, read from its beginning. Each read fails behind the end.
#[derive(Clone, Copy)]
struct Part<'a>(&'a [u8]);

impl<'a> Part<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector whose length is in one byte.
    fn short(&mut self) -> Option<Part<'a>> {
        let length = self.u8()?;
        self.bytes(length.into()).map(Part)
    }

    /// A vector whose length is in two bytes. What is there of it, if it is cut.
    fn long(&mut self) -> Option<Part<'a>> {
        let length = usize::from(self.u16()?).min(self.0.len());
        self.bytes(length).map(Part)
    }
}

fn read(bytes: &[u8], into: &mut Encryption) -> Option<()> {
    let mut message = Part(bytes);
    // The record's header, the message's type and length, its version, and random bytes.
    let _record = message.bytes(5)?;
    let kind = message.u8()?;
    let _length = message.bytes(3)?;
    let version = message.u16()?;
    let _random = message.bytes(32)?;
    let _session = message.short()?;
    match kind {
        CLIENT_HELLO => {
            let _suites = message.long()?;
            let _compressions = message.short()?;
        }
        SERVER_HELLO => {
            let _suite_and_compression = message.bytes(3)?;
            into.version = name(version);
        }
        _ => return None,
    }
    let mut extensions = message.long()?;
    while let (Some(extension), Some(mut content)) = (extensions.u16(), extensions.long()) {
        match extension {
            SERVER_NAME if kind == CLIENT_HELLO => into.server_name = server_name(content),
            SUPPORTED_VERSIONS if kind == SERVER_HELLO => into.version = content.u16().and_then(name).or(into.version),
            _ => {}
        }
    }
    Some(())
}

fn server_name(mut content: Part<'_>) -> Option<CompactString> {
    let mut names = content.long()?;
    if names.u8()? != HOST_NAME {
        return None;
    }
    let length = usize::from(names.u16()?);
    let name = names.bytes(length)?;
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if is_name { CompactString::from_utf8(name).ok() } else { None }
}

fn name(version: u16) -> Option<&'static str> {
    match version {
        0x0300 => Some("3"),
        0x0301 => Some("1.0"),
        0x0302 => Some("1.1"),
        0x0303 => Some("1.2"),
        0x0304 => Some("1.3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - length_bytes..], content].concat()
    }

    fn extension(number: u16, content: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn message(kind: u8, before_extensions: &[u8], extensions: &[u8]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), before_extensions, &vector(2, extensions)].concat();
        let message = [&[kind][..], &vector(3, &body)].concat();
        [&[HANDSHAKE, 3, 1][..], &vector(2, &message)].concat()
    }

    fn client_hello(name: &[u8]) -> Vec<u8> {
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, name)].concat());
        let extensions = [extension(23, b""), extension(SERVER_NAME, &names), extension(51, &[1; 600])].concat();
        message(CLIENT_HELLO, &[vector(2, &[0x13, 1]), vector(1, &[0])].concat(), &extensions)
    }

    fn server_hello(extensions: &[u8]) -> Vec<u8> {
        message(SERVER_HELLO, &[0x13, 1, 0], extensions)
    }

    fn encryption(client: &[u8], server: &[u8], step: usize) -> Encryption {
        let mut hellos = Hellos::default();
        client.chunks(step).for_each(|bytes| hellos.take(Way::Received, bytes));
        server.chunks(step).for_each(|bytes| hellos.take(Way::Sent, bytes));
        hellos.encryption().clone()
    }

    #[test]
    fn name_and_version_are_found_however_the_messages_are_split() {
        let (client, server) = (client_hello(b"shop.test"), server_hello(&extension(SUPPORTED_VERSIONS, &[3, 4])));
        // Fewer than two bytes do not show that a handshake begins.
        for step in [2, 5, 64, 4096] {
            let found = encryption(&client, &server, step);
            assert_eq!((found.server_name.as_deref(), found.version), (Some("shop.test"), Some("1.3")), "{step}");
        }
    }

    #[test]
    fn a_version_before_1_3_is_in_the_message_itself() {
        assert_eq!(encryption(b"", &server_hello(b""), 100).version, Some("1.2"));
    }

    #[test]
    fn a_name_that_is_none_is_not_used() {
        for name in [&b"a b"[..], b"", b"\xff\xfe", &[b'a'; 254]] {
            assert_eq!(encryption(&client_hello(name), b"", 4096).server_name, None);
        }
    }

    #[test]
    fn damaged_messages_cause_no_panic() {
        let whole = client_hello(b"shop.test");
        for at in 0..whole.len() {
            encryption(&whole[..at], b"", 4096);
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            encryption(&damaged, &damaged, 4096);
        }
    }
}
