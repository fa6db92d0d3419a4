//! Any bytes as a record of the ring: what is read of it lies within it, and is what it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_common::decode::Event;
use onlooker_common::event::{Connection, Process, Segment, kind};

fuzz_target!(|input: &[u8]| {
    // The ring aligns its records to eight bytes.
    let mut words = vec![0_u64; input.len().div_ceil(8)];
    for (word, bytes) in words.iter_mut().zip(input.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    // SAFETY: the words are initialised and live, and a byte needs no alignment; `input` is no longer than they are.
    let record = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), input.len()) };

    let Ok(event) = Event::decode(record) else { return };
    let size = match event {
        Event::Segment(segment, captured) => {
            assert_eq!(segment.kind, kind::SEGMENT);
            assert_eq!(captured.len(), segment.captured as usize);
            assert!(segment.captured <= segment.length);
            assert!(usize::from(segment.tail_length) <= segment.tail.len());
            size_of::<Segment>() + captured.len()
        }
        Event::Connection(connection) => {
            assert_eq!(connection.kind, kind::CONNECTION);
            size_of::<Connection>()
        }
        Event::Process(process) => {
            assert_eq!(process.kind, kind::PROCESS);
            size_of::<Process>()
        }
    };
    assert!(size <= record.len());
});
