//! Enrols client sockets, and takes them out again.
//!
//! A socket that stays enrolled is not like others: on some kernels it answers FIONREAD with 0, and blocking reads return other
//! errors. So it leaves when its first request is on its way, which is before the response can arrive. Sockets that never block, of
//! runtimes that never ask FIONREAD, stay until something is sent that no request can follow.

use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB,
    BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG, BPF_SOCK_OPS_PARSE_HDR_OPT_CB, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG,
};
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_map_delete_elem, bpf_sock_hash_update, bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::programs::SockOpsContext;
use core::ptr;
use onlooker_common::connection::role;
use onlooker_common::losses::Loss;
use onlooker_common::selection::process_flag;

use super::destination;
use super::storage;
use crate::connection;
use crate::globals::injects_every;
use crate::kernel::member::number;
use crate::kernel::sock::Sock;
use crate::maps::{ENROLLED, count};
use crate::selected::Selected;
use crate::state::injection::phase;
use crate::state::stream::bit;

/// What is asked for while a socket is enrolled: packets that it sends and receives. One that stays does not leave when it receives.
const CALLBACKS: u32 = BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
const CALLBACKS_OF_STAYING: u32 = BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

/// include/net/tcp.h
const FIN: u32 = 1;

/// Something happens to a TCP socket.
#[inline(always)]
pub fn event(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ctx),
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => sends(ctx),
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB => receives(ctx),
        _ => {}
    }
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<Sock> {
    // SAFETY: a member of the context.
    let sock = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    // SAFETY: the verifier knows the pointer as a socket.
    if sock.is_null() { None } else { Some(unsafe { Sock::new(sock.cast_const().cast()) }) }
}

/// A connection that a selected process opened is established.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some(sock) = socket(ctx) else { return };
    let Some(connection) = connection::storage::known(sock) else { return };
    let stream = connection.stream();
    if stream.role() != role::CLIENT || !stream.is(bit::FROM_START) || stream.is(bit::IDENTIFIED) {
        return;
    }
    // It may turn out that an undecided process is not selected.
    let Some(process) = Selected::known(stream.tgid()) else { return };
    if process.has(process_flag::UNDECIDED) {
        return;
    }
    if process.has(process_flag::NOT_INJECTED) {
        return count(Loss::TraceparentOff);
    }
    if !destination::is_allowed(ctx) {
        return count(Loss::TraceparentDenied);
    }
    // SAFETY: the context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.ops.cast()) };
    let Some(injection) = storage::of(sock) else { return count(Loss::TraceparentBusy) };
    // SAFETY: zeros are a value: the socket may have been connected before.
    unsafe { injection.as_ptr().write_bytes(0, 1) };
    injection.set_cookie(cookie);
    // SAFETY: a member of the context.
    injection.set_sequence(unsafe { (*ctx.ops).snd_nxt });
    injection.set_callbacks(ctx.cb_flags());
    let stays = injects_every() && process.has(process_flag::STAYS_ENROLLED) && sock.is_non_blocking();
    injection.set_stays(u32::from(stays));
    let mut key = cookie;
    // SAFETY: the context, the map and a key of its type.
    let failed = unsafe {
        let map = ptr::from_ref(&ENROLLED).cast_mut().cast();
        bpf_sock_hash_update(ctx.ops, map, (&raw mut key).cast(), u64::from(BPF_NOEXIST)) != 0
    };
    if failed {
        injection.set_phase(phase::DONE);
        return count(Loss::TraceparentBusy);
    }
    set_callbacks(ctx, ctx.cb_flags() | if stays { CALLBACKS_OF_STAYING } else { CALLBACKS });
}

/// A packet is about to be sent. If it has data of a request that is complete, the socket leaves.
#[inline(always)]
fn sends(ctx: &SockOpsContext) {
    // SAFETY: a member of the context.
    if unsafe { (*ctx.ops).skb_len } == 0 {
        return;
    }
    if let Some(sock) = socket(ctx)
        && let Some(injection) = storage::known(sock)
        && injection.phase() == phase::DONE
    {
        leave(ctx, injection.cookie(), injection.callbacks());
    }
}

/// A packet has arrived. If it has data, or ends the direction, the socket leaves before anybody can read it.
#[inline(always)]
fn receives(ctx: &SockOpsContext) {
    // SAFETY: members of the context. What lies between the two pointers is the packet's TCP header.
    let (length, flags, header) = unsafe {
        let data = number((*ctx.ops).__bindgen_anon_3.skb_data);
        let end = number((*ctx.ops).__bindgen_anon_4.skb_data_end);
        ((*ctx.ops).skb_len, (*ctx.ops).skb_tcp_flags, end.wrapping_sub(data))
    };
    if u64::from(length) <= header && flags & FIN == 0 {
        return;
    }
    if let Some(sock) = socket(ctx)
        && let Some(injection) = storage::known(sock)
    {
        if injection.phase() != phase::DONE {
            injection.set_phase(phase::DONE);
            count(Loss::TraceparentOpaque);
        }
        leave(ctx, injection.cookie(), injection.callbacks());
    }
}

#[inline(always)]
fn leave(ctx: &SockOpsContext, cookie: u64, callbacks: u32) {
    let mut key = cookie;
    // SAFETY: the map and a key of its type. It has no entry if the socket left before.
    unsafe {
        let map = ptr::from_ref(&ENROLLED).cast_mut().cast();
        bpf_map_delete_elem(map, (&raw mut key).cast());
    }
    // Callbacks that another program asked for stay.
    set_callbacks(ctx, ctx.cb_flags() & !(CALLBACKS & !callbacks));
}

#[inline(always)]
fn set_callbacks(ctx: &SockOpsContext, callbacks: u32) {
    // SAFETY: the context.
    unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, callbacks as i32) };
}
