//! Any conversation, cut and with holes anywhere: a parser neither panics nor breaks its promise to account for what it
//! began.
//!
//! The environment variable `ONLOOKER_FUZZ_PROTOCOL` names the row of the table. `cargo xtask fuzz NAME` sets it.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use std::env;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::{NewParser, by_name};

static NEW_PARSER: LazyLock<NewParser> = LazyLock::new(|| {
    let name = env::var("ONLOOKER_FUZZ_PROTOCOL").expect("ONLOOKER_FUZZ_PROTOCOL names a protocol");
    by_name(&name).and_then(|protocol| protocol.parser).unwrap_or_else(|| panic!("{name} is no protocol with a parser"))
});

fuzz_target!(|script: &[u8]| {
    let (from_start, talk) = kit::Talk::from_script(script);
    talk.play(NEW_PARSER(from_start));
});
