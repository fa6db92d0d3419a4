//! Any bytes: detection answers in time, more bytes don't make another protocol of them, and a parser that was guessed
//! wrong is taken back without harm.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::detect::{ENOUGH, Guess, detect};
use onlooker_protocols::{Direction, parser};

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
        match detect(known, from_start, &bytes[..length]) {
            guess @ Guess::Protocol(_, direction) => {
                assert!(known.is_none_or(|known| known == direction));
                assert_eq!(*guessed.get_or_insert(guess), guess, "with {length} bytes");
            }
            Guess::NeedMore => assert!(length < ENOUGH, "never enough"),
            Guess::Unknown(_) => {}
        }
    }
    if let Some(Guess::Protocol(protocol, direction)) = guessed {
        kit::Talk::new().says(direction, bytes).byte_at_a_time().play(parser(protocol, from_start));
    }
});
