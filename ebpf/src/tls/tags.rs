//! Records that TLS libraries write to memory, and the sockets on which they are sent.

use onlooker_common::selection::process_flag;

use super::records::{self, APPLICATION_DATA, HEADER_BYTES};
use super::{current, objects};
use crate::kernel::task::{Task, current_ids};
use crate::maps::TLS_TAGS;
use crate::selected::Selected;
use crate::state::tls::{Plaintext, Tag, Writer};
use crate::user;

/// Records in one write. A server's answer to the first message of a handshake has six.
const RECORDS: u32 = 16;

const TAG_BYTES: u64 = 16;

/// A library's call writes `length` bytes at `buffer` to where the program wants its records.
#[inline(always)]
pub fn written(buffer: u64, length: u64) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let Some(call) = current::call(process, tgid, Task::current()) else { return };
    let Some(plaintext) = objects::known(tgid, call.object()) else { return };
    if plaintext.socket_cookie() != 0 || !ends_with_application_data(buffer, length) {
        return;
    }
    let Some(tag) = tag(tgid, buffer, length) else { return };
    note(tag, plaintext);
    process.set(process_flag::TLS_MEMORY);
}

/// The record whose last bytes are below `address` was written to memory by an object.
#[inline(always)]
pub fn below(tgid: u32, plaintext: Plaintext, address: u64) {
    if plaintext.socket_cookie() == 0
        && let Some(tag) = tag(tgid, address.wrapping_sub(TAG_BYTES), TAG_BYTES)
    {
        note(tag, plaintext);
    }
}

/// The record that ends with these bytes was written to memory by an object.
#[inline(always)]
pub fn ends(tgid: u32, plaintext: Plaintext, buffer: u64, length: u64) {
    if let Some(tag) = tag(tgid, buffer, length) {
        note(tag, plaintext);
    }
}

/// If the map has no room, the kernel forgets another tag.
#[inline(always)]
fn note(tag: Tag, plaintext: Plaintext) {
    let writer = Writer { object: plaintext.object(), generation: plaintext.generation(), pad: 0 };
    let _ = TLS_TAGS.insert(tag, writer, 0);
}

/// The object that wrote the record with which the bytes of a send end. `length` is at least `TAG_BYTES`.
#[inline(always)]
pub fn writer(tgid: u32, buffer: u64, length: u64) -> Option<Plaintext> {
    let tag = tag(tgid, buffer, length)?;
    // SAFETY: a live value of the map.
    let Writer { object, generation, .. } = unsafe { *TLS_TAGS.get_ptr(tag)? };
    let _ = TLS_TAGS.remove(tag);
    objects::known(tgid, object).filter(|plaintext| plaintext.generation() == generation)
}

#[inline(always)]
fn tag(tgid: u32, buffer: u64, length: u64) -> Option<Tag> {
    if length < TAG_BYTES {
        return None;
    }
    let bytes = user::peek::<[u64; 2]>(buffer.wrapping_add(length - TAG_BYTES))?;
    Some(Tag { bytes, tgid, pad: 0 })
}

/// Whether the bytes are whole records of which the last has application data. The last bytes of others are no tags: those of
/// a handshake's first message may be padding.
#[inline(always)]
fn ends_with_application_data(buffer: u64, length: u64) -> bool {
    let mut at = 0;
    for _ in 0..RECORDS {
        let Some(header) = records::header(buffer.wrapping_add(at)) else { return false };
        at += HEADER_BYTES + u64::from(header.length);
        if at >= length {
            return at == length && header.kind == APPLICATION_DATA;
        }
    }
    false
}
