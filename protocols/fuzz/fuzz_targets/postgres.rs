//! Any talk, cut and with holes anywhere: the parser neither panics nor breaks its promise to account for what it began.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::postgres::Postgres;

fuzz_target!(|script: &[u8]| {
    let (from_start, talk) = kit::Talk::from_script(script);
    talk.play(Box::new(Postgres::new(from_start)));
});
