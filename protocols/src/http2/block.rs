//! Header blocks that are spread over several frames (RFC 9113 4.3).

use super::frame::{FrameHeader, Kind, flag};
use crate::moment::Moment;

/// Longer blocks count as hidden. Servers allow 8 KiB to 32 KiB by default.
const MAX_BLOCK: usize = 64 * 1024;

/// A header block, from the first of its frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) purpose: Purpose,
    pub(super) ends_stream: bool,
    /// The first byte of its first frame.
    pub(super) start: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A head or trailers.
    Message,
    /// The request of a response that the server pushes.
    Promise,
}

impl Block {
    /// The block that begins with this frame.
    pub(super) fn new(header: &FrameHeader, start: Moment) -> Self {
        let purpose = if header.kind == Kind::PushPromise { Purpose::Promise } else { Purpose::Message };
        Self { stream: header.stream, purpose, ends_stream: header.ends_stream(), start }
    }
}

/// The block on its way in one direction. No other frame comes between its frames.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    underway: Option<Block>,
    bytes: Vec<u8>,
    is_hidden: bool,
}

impl Blocks {
    /// Adds a frame. Returns the block if it is complete, with its bytes unless some are hidden.
    pub(super) fn add(
        &mut self,
        header: &FrameHeader,
        start: Moment,
        fragment: &[u8],
    ) -> Option<(Block, Option<Vec<u8>>)> {
        self.begin(header, start);
        if self.bytes.len() + fragment.len() > MAX_BLOCK {
            self.is_hidden = true;
        }
        if self.is_hidden {
            self.bytes.clear();
        } else {
            self.bytes.extend_from_slice(fragment);
        }
        let block = self.end(header)?;
        let bytes = std::mem::take(&mut self.bytes);
        Some((block, (!self.is_hidden).then_some(bytes)))
    }

    /// Adds a frame whose payload is hidden. Returns the block if it is complete.
    pub(super) fn hide(&mut self, header: &FrameHeader, start: Moment) -> Option<Block> {
        self.begin(header, start);
        self.is_hidden = true;
        self.bytes.clear();
        self.end(header)
    }

    pub(super) fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.bytes = bytes;
    }

    fn begin(&mut self, header: &FrameHeader, start: Moment) {
        if header.kind != Kind::Continuation {
            self.underway = Some(Block::new(header, start));
            self.is_hidden = false;
            self.bytes.clear();
        }
    }

    fn end(&mut self, header: &FrameHeader) -> Option<Block> {
        if header.has(flag::END_HEADERS) { self.underway.take() } else { None }
    }
}
