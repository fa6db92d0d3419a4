//! What is remembered of TLS: the plaintext streams of a library's objects, and the calls that threads are in.

use super::shared::shared;
use super::stream::{Stream, StreamState};
use crate::kernel::sock::SockAddress;

/// An object of a TLS library: key of the map of objects.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ObjectKey {
    /// Its address in the process.
    pub object: u64,
    pub tgid: u32,
    pub pad: u32,
}

/// The end of a TLS record, by which it is recognised when it is sent: key of the map of tags.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tag {
    pub bytes: [u64; 2],
    pub tgid: u32,
    pub pad: u32,
}

/// The object that wrote a record to memory: value of the map of tags.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Writer {
    pub object: u64,
    pub generation: u32,
    pub pad: u32,
}

shared! {
    /// The state of an object of a TLS library. It begins with its plaintext stream.
    struct PlaintextState;
    /// An object's plaintext, in place in the map of objects.
    pointer Plaintext;
    words {
        object, set_object: u64;
        /// The socket that carries it encrypted, and its cookie: 0 while it is unknown.
        socket, set_socket: SockAddress;
        socket_cookie, set_socket_cookie: u64;
        /// rustls: the cookie of the socket that a decrypted record was read from; 0 while it is unknown.
        received_on, set_received_on: u64;
        generation, set_generation: u32;
        tgid, set_tgid: u32;
        /// rustls: bits of [`key`].
        keys, set_keys: u64;
    }
    structs {
        stream: StreamState as Stream;
    }
}

impl Plaintext {
    /// The plaintext whose stream this is.
    ///
    /// # Safety
    /// The stream must be that of a [`PlaintextState`].
    #[inline(always)]
    pub unsafe fn of_stream(stream: Stream) -> Self {
        // SAFETY: the caller's promise. The state begins with its stream.
        unsafe { Self::within(stream.as_ptr().cast()) }
    }
}

/// Which keys of a connection were used.
pub mod key {
    pub const ENCRYPTS: u64 = 1;
    pub const DECRYPTS: u64 = 2;
}

/// Bytes passed on a socket in the call, and did not begin with a record of application data.
pub const RECORD_UNSEEN: u64 = u64::MAX;

/// Values of a call's `what`.
pub mod call {
    pub use onlooker_common::tls_function::what::{CREATE, HANDSHAKE, READ, WRITE};

    /// A write that was recorded as it began.
    pub const RECORDED: u32 = 255;
}

shared! {
    /// A call of a TLS library that a thread or goroutine is in.
    struct CallState;
    /// A call, in place in a thread's state.
    pointer Call;
    words {
        object, set_object: u64;
        /// Where the plaintext is.
        buffer, set_buffer: u64;
        /// Where the call writes how many bytes moved, if its result is only whether it succeeded; otherwise 0. For a call
        /// that creates an object: where it writes the object's address, if that is not the result.
        result_at, set_result_at: u64;
        /// For a write whose place in the stream was taken as it began: its position in the stream, plus one. Otherwise 0.
        taken, set_taken: u64;
        /// The stack pointer as the call began; 0 if the thread is in no call. A goroutine's is relative to the end of its
        /// stack, which may be moved.
        stack_pointer, set_stack_pointer: u64;
        /// When the call began.
        began, set_began: u64;
        /// The numbers of the TLS record that has the first byte of the call's plaintext (`RecordNumbers`), [`RECORD_UNSEEN`], or
        /// 0 while no bytes have passed on a socket in the call.
        record, set_record: u64;
        /// One of [`call`]. For functions of rustls, the cookie of the attachment.
        what, set_what: u32;
        /// 1 if the function was found by its code, and may be another one.
        by_signature, set_by_signature: u32;
    }
    structs {}
}

impl Call {
    /// Whether a thread whose stack pointer is this is still in the call. The stack grows down.
    #[inline(always)]
    pub fn contains(self, stack_pointer: u64) -> bool {
        stack_pointer < self.stack_pointer()
    }

    /// Whether the call returns with this stack pointer: that of its return instruction, or of its caller.
    #[inline(always)]
    pub fn returns_at(self, stack_pointer: u64) -> bool {
        const RETURN_ADDRESS: u64 = 8;
        self.stack_pointer() != 0
            && (stack_pointer == self.stack_pointer() || stack_pointer == self.stack_pointer() + RETURN_ADDRESS)
    }

    #[inline(always)]
    pub fn copy(self, from: Self) {
        self.set_object(from.object());
        self.set_buffer(from.buffer());
        self.set_result_at(from.result_at());
        self.set_taken(from.taken());
        self.set_stack_pointer(from.stack_pointer());
        self.set_began(from.began());
        self.set_record(from.record());
        self.set_what(from.what());
        self.set_by_signature(from.by_signature());
    }
}
