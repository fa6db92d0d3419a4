//! Records plaintext that a TLS library was given, or has returned.

use onlooker_common::plaintext;

use crate::record::arguments::{Bytes, Source};
use crate::record::form::Moved;
use crate::record::operation::Operation;
use crate::state::stream::{Direction, Place};
use crate::state::tls::Plaintext;
use crate::work::owner::Worker;
use crate::work::units::{self, thread};

/// The buffer that a call was given.
struct Buffer(u64);

impl Source for Buffer {
    #[inline(always)]
    fn bytes(self) -> Bytes {
        Bytes { at: self.0, buffers: 0 }
    }
}

/// Records that a call moved `length` bytes, which are at `buffer`. `began`: when it began.
#[inline(always)]
pub fn record(worker: Worker, plaintext: Plaintext, direction: Direction, length: u32, buffer: u64, began: u64) {
    let stream = plaintext.stream();
    let Worker { process, tgid, tid, .. } = worker;
    stream.set_tgid(tgid);
    let position = stream.next(direction);
    let place = Place { position, opposite: stream.next(direction.opposite()), added: 0 };
    stream.set_next(direction, position + u64::from(length));
    units::note(process, tgid, tid, stream);
    let mut moved = Moved::new(length, place, stream.current_unit(), tgid, tid);
    if direction == Direction::Egress {
        moved.began = began;
    }
    let operation = Operation { worker, socket: plaintext.socket(), direction, fin: false, moved: &mut moved };
    operation.record::<plaintext::Plaintext>(stream, Buffer(buffer));
    if let Some(thread) = thread::known(worker.task)
        && thread.request().cookie() == stream.cookie()
    {
        thread.set_socket_cookie(plaintext.socket_cookie());
    }
}
