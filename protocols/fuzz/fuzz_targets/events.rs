//! Decodes arbitrary bytes as a record of the ring. The result must lie within the bytes and be what its kind says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_common::connection::ConnectionChange;
use onlooker_common::datagram::Datagram;
use onlooker_common::decode::Event;
use onlooker_common::kind;
use onlooker_common::plaintext::{Plaintext, Tie};
use onlooker_common::process::{Execution, ProcessChange};
use onlooker_common::segment::Segment;

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
        Event::Plaintext(plaintext, captured) => {
            assert_eq!(plaintext.segment.kind, kind::PLAINTEXT);
            assert_eq!(captured.len(), plaintext.segment.captured as usize);
            assert!(plaintext.segment.captured <= plaintext.segment.length);
            size_of::<Plaintext>() + captured.len()
        }
        Event::Tie(tie) => {
            assert_eq!(tie.kind, kind::TIE);
            size_of::<Tie>()
        }
        Event::Datagram(datagram, captured) => {
            assert_eq!(datagram.kind, kind::DATAGRAM);
            assert_eq!(captured.len(), datagram.captured as usize);
            assert!(datagram.captured <= datagram.length);
            size_of::<Datagram>() + captured.len()
        }
        Event::Connection(connection) => {
            assert_eq!(connection.kind, kind::CONNECTION);
            size_of::<ConnectionChange>()
        }
        Event::Execution(execution) => {
            assert_eq!(execution.change.kind, kind::EXECUTION);
            size_of::<Execution>()
        }
        Event::Process(process) => {
            assert_eq!(process.kind, kind::PROCESS);
            size_of::<ProcessChange>()
        }
    };
    assert!(size <= record.len());
});
