//! Any talk, cut and with holes anywhere: the parser neither panics nor breaks its promise to account for what it began.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::redis::Redis;

fuzz_target!(|script: &[u8]| {
    let (from_start, talk) = kit::Talk::from_script(script);
    talk.play(Box::new(Redis::new(from_start)));
});
