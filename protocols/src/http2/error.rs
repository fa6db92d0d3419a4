//! Error codes (RFC 9113 7), by which an end gives up a stream.

const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// An end needs the stream no longer, and nothing has failed.
pub(super) const NO_ERROR: &str = NAMES[0];
/// RFC 9113 8.7: the server has not begun to process the request.
pub(super) const REFUSED_STREAM: &str = NAMES[7];
/// An unknown code, or one that was not captured.
pub(super) const UNKNOWN: &str = "_OTHER";

/// The name of a code.
pub(super) fn name(code: u32) -> &'static str {
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or(UNKNOWN)
}
