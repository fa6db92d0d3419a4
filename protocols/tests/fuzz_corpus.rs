//! The seeds of the fuzz targets. Those of parsers and detection are made from recorded conversations.
//!
//! They are files in `fuzz/corpus`, where the fuzzer reads them. To write them again after a change, run this test with
//! `WRITE_CORPUS=1`.

mod kit;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kit::{Talk, parser};
use onlooker_common::connection::{ConnectionChange, change, role};
use onlooker_common::datagram::Datagram;
use onlooker_common::decode::Event;
use onlooker_common::kind;
use onlooker_common::plaintext::{Plaintext, StreamKey, Tie, tied_by};
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_common::segment::{Segment, TAIL_BYTES, flag};
use onlooker_protocols::detect::ENOUGH;
use onlooker_protocols::{Direction, http1, registry};
use zerocopy::{FromZeros, IntoBytes};

/// Steps of each conversation. These are enough to show what its messages look like.
const MOST_STEPS: usize = 8;
/// A longer seed costs the fuzzer more than it teaches.
const LONGEST_SEED: usize = 4096;

/// The seeds of a protocol by name.
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

/// Compares the seeds of a target with the files, or writes the files if `WRITE_CORPUS` is set.
fn check(target: &str, seeds: &BTreeMap<String, Vec<u8>>) {
    let folder = PathBuf::from(format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR")));
    assert!(!seeds.is_empty());
    if std::env::var_os("WRITE_CORPUS").is_some() {
        std::fs::create_dir_all(&folder).expect("the corpus can be written");
        for (name, seed) in seeds {
            std::fs::write(folder.join(name), seed).expect("the corpus can be written");
        }
    }
    for (name, seed) in seeds {
        let kept = std::fs::read(folder.join(name)).unwrap_or_default();
        assert!(kept == *seed, "fuzz/corpus/{target}/{name} is not what the fixture makes: run with WRITE_CORPUS=1");
    }
    let kept = std::fs::read_dir(&folder).expect("the corpus can be read").count();
    assert_eq!(kept, seeds.len(), "fuzz/corpus/{target} holds what no fixture makes");
}

#[test]
fn the_corpus_of_each_protocol_is_made_from_its_fixtures() {
    for (protocol, new_parser) in registry::parsed() {
        let seeds = seeds(protocol.name);
        check(protocol.name, &seeds);
        for script in seeds.values() {
            let (from_start, talk) = Talk::from_script(script);
            talk.play(new_parser(from_start));
        }
    }
}

/// The first bytes of each direction, and of later steps.
#[test]
fn the_corpus_of_the_detection_is_made_from_the_fixtures() {
    let mut seeds = BTreeMap::new();
    for protocol in registry::parsed().map(|(protocol, _)| protocol.name) {
        for name in Talk::all_recorded(protocol) {
            for (step, said) in Talk::recorded(protocol, &name).said().enumerate().take(MOST_STEPS) {
                let seed = [&[u8::from(step == 0)], &said[..said.len().min(ENOUGH)]].concat();
                seeds.insert(format!("{protocol}.{name}.{step}"), seed);
            }
        }
    }
    check("detect", &seeds);
}

/// Records of the first operations of each conversation, and of every change of a connection and a process.
#[test]
fn the_corpus_of_the_events_is_made_from_the_fixtures() {
    let mut seeds = BTreeMap::new();
    for protocol in registry::parsed().map(|(protocol, _)| protocol.name) {
        for name in Talk::all_recorded(protocol) {
            for (step, said) in Talk::recorded(protocol, &name).said().enumerate().take(2) {
                seeds.insert(format!("segment.{protocol}.{name}.{step}"), segment(step, said));
            }
        }
    }
    for change in change::SEEN..=change::DESTROYED {
        seeds.insert(format!("connection.{change}"), connection(change));
    }
    for change in lifecycle::EXEC..=lifecycle::CALLS {
        seeds.insert(format!("process.{change}"), process(change));
    }
    seeds.insert("plaintext".to_owned(), plaintext(b"GET / HTTP/1.1\r\n\r\n"));
    seeds.insert(
        "tie".to_owned(),
        Tie { kind: kind::TIE, stream: STREAM, cookie: COOKIE, time: TIME, tied_by: tied_by::CALL }.as_bytes().to_vec(),
    );
    seeds.insert("datagram".to_owned(), datagram(&[0; 48]));
    check("events", &seeds);
    for (name, seed) in &seeds {
        // The ring aligns its records to eight bytes.
        let mut words = vec![0_u64; seed.len().div_ceil(8)];
        words.as_mut_bytes()[..seed.len()].copy_from_slice(seed);
        assert!(Event::decode(&words.as_bytes()[..seed.len()]).is_ok(), "{name}");
    }
}

/// Statements in every dialect, whole and truncated.
#[test]
fn the_corpus_of_sql_holds_every_kind_of_token() {
    const STATEMENTS: [(&str, &str); 8] = [
        ("select", "SELECT a.b, count(*) FROM \"T\" AS a JOIN u ON a.id = u.id WHERE x IN (1, 2.5e-3) -- end"),
        ("insert", "INSERT INTO t (a, b) VALUES ('x', E'it\\'s'), (U&'\\0041', NULL)"),
        ("with", "WITH c AS (SELECT 1) UPDATE t SET a = $1 FROM c WHERE b = ?"),
        ("function", "CREATE FUNCTION f() AS $fn$ SELECT 'x'; $fn$ LANGUAGE sql"),
        ("password", "ALTER USER bob WITH PASSWORD 'secret'; SET app.token = secret"),
        ("mysql", "SELECT `a`, \"text\", _utf8mb4'x' FROM `d`.`t` # end\n WHERE b = 0xFF"),
        ("several", "BEGIN; DELETE FROM t USING u; COPY t FROM STDIN; COMMIT"),
        ("comments", "/* a /* b */ c */ SELECT 'x'\n'y' /*!40000 z */"),
    ];
    let mut seeds = BTreeMap::new();
    for (name, statement) in STATEMENTS {
        // Four dialects, each whole and truncated.
        for flags in 0..8_u8 {
            seeds.insert(format!("{name}.{flags}"), [&[flags], statement.as_bytes()].concat());
        }
    }
    check("sql", &seeds);
}

#[test]
fn the_corpora_of_what_requests_name_hold_every_form() {
    let named = |seeds: &[(&str, &str)]| seeds.iter().map(|&(name, seed)| (name.to_owned(), seed.into())).collect();
    check(
        "redact",
        &named(&[
            ("query", "a=1&b=&=c&ids%5B%5D=3&dG9rZW4=&x"),
            ("path", "/shop;jsessionid=0123/cart;v=1;x"),
            ("escaped", "/shop%3Bjsessionid=0123%3bv%3D1/cart%3B%20b"),
            ("authority", "user:password@[::1]:8080/path?a=b#c"),
            ("port", "example.com:secret"),
        ]),
    );
    check(
        "propagation",
        &named(&[
            ("both", "p00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nsa=1,b@c=2\nsd=3"),
            ("later_version", "pcc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what"),
            ("two", "p00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\np00"),
        ]),
    );
    check(
        "routes",
        &named(&[
            ("words", "/users/alice/orders\n/api/v2/users\n/a-b_c/d.html\n*"),
            ("ids", "/users/7\n/u/550e8400-e29b-41d4-a716-446655440000\n/o/2026-11-29\n/x/0af7651916cd43dd8448eb21"),
            ("secrets", "/reset/eyJhbGciOiJIUzI1NiJ9.e30.abc\n/hook/ghp_0123456789abcdefghijABCDEFGHIJ012345"),
            ("deep", "/a/b/c/d/e/f/g/h/i/j/k/l;m=n\n//\n/https://user@host/x"),
        ]),
    );
}

const TGID: u32 = 4711;
const COOKIE: u64 = 77;
const TIME: u64 = 1_000_000_000;

/// An operation that moved `said`. Its beginning and its end were captured.
fn segment(step: usize, said: &[u8]) -> Vec<u8> {
    const CAPTURED: usize = 64;
    let captured = &said[..said.len().min(CAPTURED)];
    let kept = (said.len() - captured.len()).min(TAIL_BYTES);
    let mut tail = [0; TAIL_BYTES];
    tail[TAIL_BYTES - kept..].copy_from_slice(&said[said.len() - kept..]);
    let segment = Segment {
        kind: kind::SEGMENT,
        captured: captured.len() as u32,
        time: TIME,
        cookie: COOKIE,
        length: said.len() as u32,
        run: step as u32,
        flags: flag::BEGINS | flag::FROM_START | if step == 0 { 0 } else { flag::EGRESS },
        role: role::SERVER,
        tail_length: kept as u8,
        tgid: TGID,
        tid: TGID,
        tail,
        ..Segment::default()
    };
    [segment.as_bytes(), captured].concat()
}

const STREAM: StreamKey = StreamKey { object: 0x7f00_0000_1000, generation: 1, tgid: TGID };

fn plaintext(said: &[u8]) -> Vec<u8> {
    let length = said.len() as u32;
    let segment =
        Segment { kind: kind::PLAINTEXT, captured: length, time: TIME, length, tgid: TGID, ..Segment::default() };
    [Plaintext { segment, stream: STREAM }.as_bytes(), said].concat()
}

fn datagram(said: &[u8]) -> Vec<u8> {
    let length = said.len() as u32;
    let header =
        Datagram { kind: kind::DATAGRAM, captured: length, time: TIME, length, tgid: TGID, ..Datagram::default() };
    [header.as_bytes(), said].concat()
}

fn connection(change: u32) -> Vec<u8> {
    const AF_INET: u16 = 2;
    let mut connection = ConnectionChange::new_zeroed();
    (connection.kind, connection.change) = (kind::CONNECTION, change);
    (connection.time, connection.cookie, connection.tgid) = (TIME, COOKIE, TGID);
    (connection.family, connection.role) = (AF_INET, role::SERVER);
    (connection.local_port, connection.remote_port) = (8080, 50_000);
    connection.as_bytes().to_vec()
}

fn process(change: u32) -> Vec<u8> {
    let comm = *b"python3\0\0\0\0\0\0\0\0\0";
    ProcessChange { kind: kind::PROCESS, change, time: TIME, tgid: TGID, other: TGID + 1, comm }.as_bytes().to_vec()
}

#[test]
fn a_talk_survives_being_written_as_a_script() {
    for name in Talk::all_recorded("http1") {
        let talk = Talk::recorded("http1", &name).gap(Direction::ToClient, 5 << 16);
        let talk = talk.lost(Direction::ToServer, "x").request("more").end(Direction::ToClient);
        let (from_start, again) = Talk::from_script(&talk.to_script(true));
        assert!(from_start);
        let play = |talk: &Talk| talk.play(parser(&http1::SPEC, true));
        assert_eq!(play(&again), play(&talk));
    }
}
