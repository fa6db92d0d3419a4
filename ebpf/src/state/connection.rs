//! What is remembered of a socket: its stream, and how its connection ends.

use super::shared::shared;
use super::stream::{Stream, StreamState};
use crate::kernel::sock::{Fins, SockAddress};

/// Values of `outcome`: how a call ended that has no response.
pub mod outcome {
    pub const OPEN: u8 = 0;
    /// The process closed the connection, or its own direction of it.
    pub const GIVEN_UP: u8 = 1;
    /// The connection ended, or was never established. Its process will notice and close the socket.
    pub const FAILED: u8 = 2;
}

/// An MPTCP connection that is established: its first subflow, and the sequence numbers of the next byte that the subflow
/// sends and receives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handshake {
    pub subflow: SockAddress,
    pub sends: u32,
    pub receives: u32,
}

shared! {
    /// The state of a socket, in its local storage.
    struct ConnectionState;
    /// A connection, in place in its socket's storage.
    pointer Connection;
    words {
        /// When the send began that waits for buffer space; 0 while none waits.
        sending_since, set_sending_since: u64;
        /// The object of a TLS library whose plaintext it carries; 0 if none is known.
        object, set_object: u64;
        /// The socket, once TLS was looked for.
        address, set_address: SockAddress;
        /// 1 if a FIN was sent. Not a bit of the stream's flags: it is set by others than the thread that uses the connection.
        fin_sent, set_fin_sent: u8;
        /// 1 if a FIN was received.
        fin_received, set_fin_received: u8;
        /// 1 if the connection was closed before everything that arrived was read.
        unread, set_unread: u8;
        /// One of [`outcome`].
        outcome, set_outcome: u8;
        /// Bytes that were added to the operation that is being sent; 0 if none were.
        added, set_added: u32;
        /// The thread that sends it.
        added_by, set_added_by: u32;
        pad, set_pad: u32;
    }
    structs {
        stream: StreamState as Stream;
    }
}

impl Connection {
    #[inline(always)]
    pub fn fins(self) -> Fins {
        Fins { sent: self.fin_sent() != 0, received: self.fin_received() != 0 }
    }

    /// Notes FINs. What was noted before stays.
    #[inline(always)]
    pub fn note(self, fins: Fins) {
        if fins.sent {
            self.set_fin_sent(1);
        }
        if fins.received {
            self.set_fin_received(1);
        }
    }

    /// Forgets everything: the socket is connected anew.
    #[inline(always)]
    pub fn reset(self) {
        // SAFETY: a live value, of which zeros are one.
        unsafe { self.as_ptr().write_bytes(0, 1) };
    }
}
