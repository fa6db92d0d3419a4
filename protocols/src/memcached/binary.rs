//! The binary protocol: headers, opcodes and status codes.
//!
//! <https://github.com/memcached/memcached/wiki/BinaryProtocolRevamped>

/// First byte of a request.
pub(super) const REQUEST: u8 = 0x80;
/// First byte of a response.
pub(super) const RESPONSE: u8 = 0x81;
pub(super) const HEADER_BYTES: usize = 24;
/// Longest key.
const LONGEST_KEY: u16 = 250;
/// The extras of `incr` and `decr`.
const LONGEST_EXTRAS: u8 = 20;
/// The largest item that a server can be configured to store.
const LARGEST_BODY: u32 = 1 << 30;

/// The 24 bytes with which a message begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_request: bool,
    pub(super) opcode: u8,
    pub(super) key_bytes: u16,
    extra_bytes: u8,
    /// Of a response.
    pub(super) status: u16,
    body_bytes: u32,
    /// A response repeats that of its request.
    pub(super) opaque: u32,
}

impl Header {
    /// Reads a header. `None` if `bytes` are too few or no header.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let double = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let this = Self {
            is_request: header[0] == REQUEST,
            opcode: header[1],
            key_bytes: word(2),
            extra_bytes: header[4],
            status: word(6),
            body_bytes: double(8),
            opaque: double(12),
        };
        let is_magic = matches!(header[0], REQUEST | RESPONSE);
        let raw_data_type = header[5] == 0;
        let fits = u32::from(this.key_bytes) + u32::from(this.extra_bytes) <= this.body_bytes;
        let is_possible =
            this.key_bytes <= LONGEST_KEY && this.extra_bytes <= LONGEST_EXTRAS && this.body_bytes <= LARGEST_BODY;
        (is_magic && raw_data_type && fits && is_possible).then_some(this)
    }

    /// Whether a header with a known opcode may begin like this.
    pub(super) fn may_be(first: &[u8]) -> bool {
        let is = |at: usize, fits: fn(u8) -> bool| first.get(at).is_none_or(|&byte| fits(byte));
        // The key's length has one significant byte, and there is one data type.
        is(1, |code| opcode(code).is_some()) && is(2, |high| high == 0) && is(5, |data_type| data_type == 0)
    }

    /// Bytes of the header, its extras and its key.
    pub(super) fn head_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.extra_bytes) + usize::from(self.key_bytes)
    }

    /// Bytes that follow the key.
    pub(super) fn data_bytes(&self) -> u64 {
        u64::from(self.body_bytes) - u64::from(self.extra_bytes) - u64::from(self.key_bytes)
    }

    /// Whether the extras of a request have the length that its opcode demands.
    pub(super) fn has_right_extras(&self) -> bool {
        OPCODES.iter().any(|opcode| opcode.code == self.opcode && opcode.extras.contains(&self.extra_bytes))
    }
}

/// A row of [`OPCODES`].
#[derive(Debug)]
pub(super) struct Opcode {
    code: u8,
    /// The name of the operation, as the text protocol has it.
    pub(super) operation: &'static str,
    /// The server leaves out the response that a client can infer.
    pub(super) is_quiet: bool,
    /// Possible lengths of a request's extras.
    extras: &'static [u8],
}

const fn row(code: u8, operation: &'static str, is_quiet: bool, extras: &'static [u8]) -> Opcode {
    Opcode { code, operation, is_quiet, extras }
}

pub(super) const QUIT: u8 = 0x07;
pub(super) const QUIT_QUIETLY: u8 = 0x17;
pub(super) const STAT: u8 = 0x10;

const OPCODES: [Opcode; 33] = [
    row(0x00, "get", false, &[0]),
    row(0x01, "set", false, &[8]),
    row(0x02, "add", false, &[8]),
    row(0x03, "replace", false, &[8]),
    row(0x04, "delete", false, &[0]),
    row(0x05, "incr", false, &[20]),
    row(0x06, "decr", false, &[20]),
    row(QUIT, "quit", false, &[0]),
    row(0x08, "flush_all", false, &[0, 4]),
    row(0x09, "get", true, &[0]),
    row(0x0a, "noop", false, &[0]),
    row(0x0b, "version", false, &[0]),
    row(0x0c, "get", false, &[0]),
    row(0x0d, "get", true, &[0]),
    row(0x0e, "append", false, &[0]),
    row(0x0f, "prepend", false, &[0]),
    row(STAT, "stats", false, &[0]),
    row(0x11, "set", true, &[8]),
    row(0x12, "add", true, &[8]),
    row(0x13, "replace", true, &[8]),
    row(0x14, "delete", true, &[0]),
    row(0x15, "incr", true, &[20]),
    row(0x16, "decr", true, &[20]),
    row(QUIT_QUIETLY, "quit", true, &[0]),
    row(0x18, "flush_all", true, &[0, 4]),
    row(0x19, "append", true, &[0]),
    row(0x1a, "prepend", true, &[0]),
    row(0x1c, "touch", false, &[4]),
    row(0x1d, "gat", false, &[4]),
    row(0x1e, "gat", true, &[4]),
    row(0x20, "sasl_mechs", false, &[0]),
    row(0x21, "sasl_auth", false, &[0]),
    row(0x22, "sasl_step", false, &[0]),
];

/// What the table says of an opcode.
pub(super) fn opcode(code: u8) -> Option<&'static Opcode> {
    OPCODES.iter().find(|row| row.code == code)
}

/// The outcomes that are no errors.
mod status {
    pub(super) const OK: u16 = 0x00;
    pub(super) const KEY_NOT_FOUND: u16 = 0x01;
    pub(super) const KEY_EXISTS: u16 = 0x02;
    pub(super) const NOT_STORED: u16 = 0x05;
    /// SASL: the server asks for another step.
    pub(super) const CONTINUE: u16 = 0x21;
}

/// Whether a status reports an error, and not only what became of the item.
pub(super) fn is_error(status: u16) -> bool {
    !matches!(status, status::OK | status::KEY_NOT_FOUND | status::KEY_EXISTS | status::NOT_STORED | status::CONTINUE)
}
