//! Records plaintext that a TLS library was given, or has returned.

use onlooker_common::plaintext;

use crate::record::arguments::{Bytes, Source};
use crate::record::form::Moved;
use crate::record::operation::Operation;
use crate::state::stream::{Direction, Place};
use crate::state::tls::Plaintext;
use crate::work::owner::Worker;
use crate::work::units::{self, thread};

/// The buffers that a call was given.
#[derive(Clone, Copy)]
struct Buffers(Bytes);

impl Source for Buffers {
    #[inline(always)]
    fn bytes(self) -> Bytes {
        self.0
    }
}

/// What a call moved.
#[derive(Clone, Copy)]
pub struct Call {
    pub direction: Direction,
    /// In bytes.
    pub length: u32,
    /// Where the bytes are.
    pub bytes: Bytes,
    /// When it began.
    pub began: u64,
    /// Its position in the stream, if that was taken as it began.
    pub position: Option<u64>,
    /// The numbers of the TLS record that has the first byte (`RecordNumbers`), 0 if they are unknown.
    pub record: u64,
}

/// Takes the place in the stream of a write that begins and will be recorded as it returns. Returns its position.
#[inline(always)]
pub fn take_place(plaintext: Plaintext, length: u32) -> u64 {
    let stream = plaintext.stream();
    let position = stream.next(Direction::Egress);
    stream.set_next(Direction::Egress, position + u64::from(length));
    position
}

/// Records what a call moved.
#[inline(always)]
pub fn record(worker: Worker, plaintext: Plaintext, call: Call) {
    let stream = plaintext.stream();
    let Worker { process, tgid, tid, .. } = worker;
    let Call { direction, length, bytes, began, position: taken, record } = call;
    stream.set_tgid(tgid);
    let position = match taken {
        Some(position) => position,
        None => {
            let position = stream.next(direction);
            stream.set_next(direction, position + u64::from(length));
            position
        }
    };
    let place = Place { position, opposite: stream.next(direction.opposite()), added: 0 };
    units::note(process, tgid, tid, stream);
    let mut moved = Moved::new(length, place, stream.current_unit(), tgid, tid);
    moved.peer = record;
    if direction == Direction::Egress {
        moved.began = began;
    }
    let operation = Operation { worker, socket: plaintext.socket(), direction, fin: false, moved: &mut moved };
    operation.record::<plaintext::Plaintext>(stream, Buffers(bytes));
    if let Some(thread) = thread::known(worker.task)
        && thread.request().cookie() == stream.cookie()
    {
        thread.set_socket_cookie(plaintext.socket_cookie());
    }
}
