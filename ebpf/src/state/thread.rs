//! What is remembered of a thread: the request that it works on.

use onlooker_common::owner::Owner;

use super::event_loop::{EventLoop, EventLoopState};
use super::owner::SharedOwner;
use super::shared::shared;
use super::tls::{Call, CallState};
use super::walk::{Walk, WalkState};
use crate::kernel::sock::SockAddress;

shared! {
    /// The state of a thread, in its local storage.
    struct ThreadState;
    /// A thread, in place in its task's storage.
    pointer Thread;
    words {
        /// 1 once the response to `request` has begun, or if there will be none.
        answered, set_answered: u64;
        /// The socket that `request` was read from.
        socket, set_socket: SockAddress;
        /// The cookie of that socket; 0 if it is unknown.
        socket_cookie, set_socket_cookie: u64;
        /// The cookie of the socket from which it read encrypted bytes last.
        tls_received, set_tls_received: u64;
        /// When it was started for `started_for`.
        started_at, set_started_at: u64;
        /// In a JVM: the address of its `JavaThread`, once that is known, and the id of its own `Thread` object.
        java_thread, set_java_thread: u64;
        java_thread_id, set_java_thread_id: u64;
    }
    structs {
        /// The request that the thread read last. It stays after the response begins: a streaming response makes calls.
        request: Owner as SharedOwner;
        /// The owner of the event loop's current tick.
        tick: Owner as SharedOwner;
        /// The request that the thread which forked worked on. The first thread of a process only.
        started_for: Owner as SharedOwner;
        /// The event loop of Node that runs in it.
        event_loop: EventLoopState as EventLoop;
        /// The call of a TLS library that it is in, and the call around that.
        tls_call: CallState as Call;
        tls_outer_call: CallState as Call;
        /// Its walk over the HTTP/2 frames of an operation.
        walk: WalkState as Walk;
    }
}

impl Thread {
    /// Whether the request that it read last waits for its response. It does not if another thread closed its connection.
    #[inline(always)]
    pub fn owes_response(self) -> bool {
        self.request().is_known() && self.answered() == 0 && self.has_connection()
    }

    /// Whether the request that it read last can still be worked on. After its response began, that is until its
    /// connection ends.
    #[inline(always)]
    pub fn may_still_respond(self) -> bool {
        self.answered() == 0 || self.has_connection()
    }

    /// Whether the connection of the request is open, as far as its socket is known.
    #[inline(always)]
    fn has_connection(self) -> bool {
        self.socket_cookie() == 0 || self.socket().is_connection(self.socket_cookie())
    }

    /// Notes that no response is owed on a stream: it has begun, or there will be none.
    #[inline(always)]
    pub fn owes_nothing_on(self, cookie: u64) {
        if self.request().cookie() == cookie {
            self.set_answered(1);
        }
    }

    /// Forgets a request because its stream is closed.
    #[inline(always)]
    pub fn forget(self, cookie: u64) {
        if self.request().cookie() == cookie {
            self.request().clear();
        }
        if self.tick().cookie() == cookie {
            self.tick().clear();
        }
    }
}
