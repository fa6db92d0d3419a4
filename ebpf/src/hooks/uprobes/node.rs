//! Functions of Node and libuv that run callbacks of several requests in turn.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::user;
use crate::work::{node_streams, tick};

/// `node::Environment::RunTimers`, `uv__async_io`
#[uprobe]
pub fn node_callbacks(_ctx: ProbeContext) -> u32 {
    tick::callbacks_begin();
    0
}

/// `node::Environment::ToggleImmediateRef(bool ref)`
#[uprobe]
pub fn node_immediates(ctx: ProbeContext) -> u32 {
    tick::immediates(ctx.arg::<u64>(1).is_some_and(|due| due & 0xff != 0));
    0
}

/// `node::http2::Http2Stream::Http2Stream(Http2Session*, Local<Object>, int32_t id, nghttp2_headers_category, int)`
#[uprobe]
pub fn node_stream(ctx: ProbeContext) -> u32 {
    if let (Some(session), Some(number), Some(category)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(3), ctx.arg::<u64>(4)) {
        node_streams::stream_begins(session, number as u32, category as u32);
    }
    0
}

/// `node::http2::Http2Session::Http2Session(...)`
#[uprobe]
pub fn node_session(_ctx: ProbeContext) -> u32 {
    node_streams::session_begins();
    0
}

/// `node::http2::Http2Session::SendPendingData()`
#[uprobe]
pub fn node_sends(ctx: ProbeContext) -> u32 {
    if let Some(session) = ctx.arg::<u64>(0) {
        node_streams::sends(session);
    }
    0
}

/// `node::http2::Http2Session::OnFrameReceive(nghttp2_session*, nghttp2_frame const*, void* session)`
#[uprobe]
pub fn node_frame(ctx: ProbeContext) -> u32 {
    /// Of the number of the stream in `nghttp2_frame_hd`, behind the length.
    const STREAM_ID: u64 = 8;
    if let (Some(frame), Some(session)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2))
        && let Some(number) = user::peek::<u32>(frame.wrapping_add(STREAM_ID))
    {
        node_streams::frame_begins(session, number);
    }
    0
}

/// `node::http2::Http2Session::OnDataChunkReceived(nghttp2_session*, uint8_t, int32_t id, uint8_t const*, size_t, void* session)`
#[uprobe]
pub fn node_data(ctx: ProbeContext) -> u32 {
    if let (Some(number), Some(session)) = (ctx.arg::<u64>(2), ctx.arg::<u64>(5)) {
        node_streams::frame_begins(session, number as u32);
    }
    0
}

/// A return instruction of `node::http2::Http2Session::OnStreamRead(ssize_t, uv_buf_t const&)`
#[uprobe]
pub fn node_frames_end(_ctx: ProbeContext) -> u32 {
    node_streams::frames_end();
    0
}
