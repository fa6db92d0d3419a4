//! The seeds of the fuzz targets are the recorded conversations, whole and with holes.
//!
//! They are kept in `fuzz/corpus`, where the fuzzer looks for them. After a change to the fixtures, run this test with
//! `WRITE_CORPUS=1` to write them anew.

mod kit;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kit::Talk;
use onlooker_protocols::detect::ENOUGH;
use onlooker_protocols::{Direction, Protocol, parser};
use rstest::rstest;

/// Of each conversation, so many are enough to see what its messages look like.
const MOST_STEPS: usize = 8;
/// A longer seed costs the fuzzer more than it teaches.
const LONGEST_SEED: usize = 4096;

/// Every seed of a target by its name.
fn seeds(protocol: &str) -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for name in Talk::all_recorded(protocol) {
        let talk = Talk::recorded(protocol, &name);
        let variants = [
            ("whole", talk.to_script(true)),
            ("from_the_middle", talk.to_script(false)),
            ("captured_in_part", talk.captured(64, 16).to_script(true)),
        ];
        seeds.extend(variants.map(|(variant, mut script)| {
            script.truncate(LONGEST_SEED);
            (format!("{name}.{variant}"), script)
        }));
    }
    seeds
}

#[rstest]
#[case("http1", Protocol::Http1)]
#[case("postgres", Protocol::Postgres)]
#[case("redis", Protocol::Redis)]
fn the_corpus_is_made_from_the_fixtures(#[case] target: &str, #[case] protocol: Protocol) {
    let folder = PathBuf::from(format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR")));
    let seeds = seeds(target);
    assert!(!seeds.is_empty());
    if std::env::var_os("WRITE_CORPUS").is_some() {
        std::fs::create_dir_all(&folder).expect("the corpus can be written");
        for (name, script) in &seeds {
            std::fs::write(folder.join(name), script).expect("the corpus can be written");
        }
    }
    for (name, script) in seeds {
        let kept = std::fs::read(folder.join(&name)).unwrap_or_default();
        assert!(kept == script, "fuzz/corpus/{target}/{name} is not what the fixture makes: run with WRITE_CORPUS=1");
        let (from_start, talk) = Talk::from_script(&script);
        talk.play(parser(protocol, from_start));
    }
}

/// What detection is asked about: the beginning of what either side says first, and of what it says later.
#[test]
fn the_corpus_of_the_detection_is_made_from_the_fixtures() {
    let folder = PathBuf::from(format!("{}/fuzz/corpus/detect", env!("CARGO_MANIFEST_DIR")));
    for protocol in ["http1", "postgres", "redis"] {
        for name in Talk::all_recorded(protocol) {
            let talk = Talk::recorded(protocol, &name);
            for (step, said) in talk.said().enumerate().take(MOST_STEPS) {
                let path = folder.join(format!("{protocol}.{name}.{step}"));
                let seed = [&[u8::from(step == 0)], &said[..said.len().min(ENOUGH)]].concat();
                if std::env::var_os("WRITE_CORPUS").is_some() {
                    std::fs::create_dir_all(&folder).expect("the corpus can be written");
                    std::fs::write(&path, &seed).expect("the corpus can be written");
                }
                assert!(std::fs::read(&path).unwrap_or_default() == seed, "{path:?} is not what the fixture makes");
            }
        }
    }
}

#[test]
fn a_talk_survives_being_written_as_a_script() {
    for name in Talk::all_recorded("http1") {
        let talk = Talk::recorded("http1", &name).gap(Direction::Response, 5 << 16);
        let talk = talk.lost(Direction::Request, "x").request("more").end(Direction::Response);
        let (from_start, again) = Talk::from_script(&talk.to_script(true));
        assert!(from_start);
        let play = |talk: &Talk| talk.play(parser(Protocol::Http1, true));
        assert_eq!(play(&again), play(&talk));
    }
}
