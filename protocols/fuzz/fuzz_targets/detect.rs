//! Any bytes: detection answers in time, more bytes do not make another protocol of them, and the parser of a wrong guess
//! does no harm.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::detect::{ENOUGH, Guess, Sample, detect};
use onlooker_protocols::{Direction, PROTOCOLS, Transport};

fuzz_target!(|input: &[u8]| {
    let Some((flags, bytes)) = input.split_first() else { return };
    let from_start = flags & 1 != 0;
    let known = match flags >> 1 & 3 {
        1 => Some(Direction::ToServer),
        2 => Some(Direction::ToClient),
        _ => None,
    };
    let mut guessed = None;
    for length in 0..=bytes.len().min(ENOUGH) {
        let sample = Sample { transport: Transport::Stream, direction: known, from_start, bytes: &bytes[..length] };
        match detect(PROTOCOLS, &sample) {
            guess @ Guess::Protocol(_, direction) => {
                assert!(known.is_none_or(|known| known == direction));
                assert_eq!(*guessed.get_or_insert(guess), guess, "with {length} bytes");
            }
            Guess::NeedMore => assert!(length < ENOUGH, "never enough"),
            Guess::Unparsed(_) | Guess::Unknown => {}
        }
    }
    if let Some(Guess::Protocol(protocol, direction)) = guessed {
        kit::Talk::new().says(direction, bytes).byte_at_a_time().play(kit::parser(protocol, from_start));
    }
});
