//! HPACK: the examples of RFC 7541, the stories of hpack-test-case, and a comparison with another decoder.

mod chance;

use std::path::{Path, PathBuf};
use std::process::Command;

use onlooker_protocols::http2::hpack::{Decoder, Malformed, Name};
use proptest::prelude::*;
use rstest::rstest;

/// Keeps every name and value.
#[derive(Debug, Clone, PartialEq)]
struct Whole(Vec<u8>);

impl Name for Whole {
    fn of(name: &[u8]) -> Self {
        Self(name.to_vec())
    }

    fn is_kept(&self) -> bool {
        true
    }
}

/// Name and value, or `None` for a field that is unknown.
type Field = Option<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder<Whole>, block: &[u8]) -> Result<Vec<Field>, Malformed> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| fields.push(field.map(|(name, value)| (name.0.clone(), value.to_vec()))))?;
    Ok(fields)
}

fn known(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| Some((name.as_bytes().to_vec(), value.as_bytes().to_vec()))).collect()
}

/// RFC 7541 C.3 and C.4: the same three requests, without and with Huffman codes.
#[rstest]
#[case::plain([
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
])]
#[case::huffman([
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
])]
fn the_requests_of_appendix_c_are_decoded(#[case] blocks: [&str; 3]) {
    let host = (":authority", "www.example.com");
    let mut decoder = Decoder::new(true);
    let decoded = blocks.map(|block| decode(&mut decoder, &hex::decode(block).expect("digits")).expect("a block"));
    assert_eq!(decoded[0], known(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), host]));
    let second = [(":method", "GET"), (":scheme", "http"), (":path", "/"), host, ("cache-control", "no-cache")];
    assert_eq!(decoded[1], known(&second));
    let own = ("custom-key", "custom-value");
    assert_eq!(decoded[2], known(&[(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), host, own]));
}

/// RFC 7541 C.2.3
#[test]
fn a_field_that_is_never_indexed_is_decoded_and_not_inserted() {
    let mut decoder = Decoder::new(true);
    let block = hex::decode("100870617373776f726406736563726574").expect("digits");
    assert_eq!(decode(&mut decoder, &block), Ok(known(&[("password", "secret")])));
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(Malformed::Index));
}

#[rstest]
#[case::index_zero("80", Malformed::Index)]
#[case::index_without_an_entry("be", Malformed::Index)]
#[case::name_without_an_entry("7f0001", Malformed::Index)]
#[case::truncated_integer("ff", Malformed::Truncated)]
#[case::truncated_string("000a61", Malformed::Truncated)]
#[case::large_integer("ffffffffffff7f", Malformed::Integer)]
#[case::huffman("000081ff", Malformed::Huffman)]
#[case::late_resize("823f01", Malformed::LateResize)]
fn a_malformed_block_is_an_error(#[case] block: &str, #[case] malformed: Malformed) {
    assert_eq!(decode(&mut Decoder::new(true), &hex::decode(block).expect("digits")), Err(malformed));
}

#[test]
fn the_dynamic_table_is_evicted_and_resized() {
    let mut decoder = Decoder::new(true);
    let field = |name: u8| [&[0x40, 1, name, 0x7f, 0xa9, 0x01][..], &[b'x'; 296]].concat();
    // Each entry counts 329 bytes, so 4,096 have room for twelve.
    for name in b'a'..=b'm' {
        decode(&mut decoder, &field(name)).expect("a literal");
    }
    let name = |fields: Result<Vec<Field>, Malformed>| fields.map(|fields| fields[0].clone().map(|(name, _)| name[0]));
    assert_eq!(name(decode(&mut decoder, &[0xbe])), Ok(Some(b'm')));
    assert_eq!(name(decode(&mut decoder, &[0x80 | 73])), Ok(Some(b'b')));
    assert_eq!(name(decode(&mut decoder, &[0x80 | 74])), Err(Malformed::Index));
    // 1,000 bytes have room for three.
    assert_eq!(name(decode(&mut decoder, &[0x3f, 0xc9, 0x07, 0x80 | 64])), Ok(Some(b'k')));
    assert_eq!(name(decode(&mut decoder, &[0x80 | 65])), Err(Malformed::Index));
    assert_eq!(name(decode(&mut decoder, &[0x20, 0xbe])), Err(Malformed::Index));
}

#[test]
fn indices_count_from_the_newest_entry_when_earlier_ones_are_unknown() {
    let mut decoder = Decoder::new(false);
    assert_eq!(decode(&mut decoder, &[0xbe, 0x82]), Ok([vec![None], known(&[(":method", "GET")])].concat()));
    // Two are inserted: one with its name, one with the name of an unknown entry.
    let fields = decode(&mut decoder, &[0x40, 1, b'a', 1, b'b', 0x7f, 0x00, 1, b'c']);
    assert_eq!(fields, Ok(vec![known(&[("a", "b")])[0].clone(), None]));
    assert_eq!(decode(&mut decoder, &[0xbe, 0xbf, 0xc0]), Ok(vec![None, known(&[("a", "b")])[0].clone(), None]));
    decoder.miss();
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(vec![None]));
    // An empty table is known again.
    assert_eq!(
        decode(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f, 0x40, 1, b'a', 1, b'b', 0xbe]),
        Ok(known(&[("a", "b"); 2]))
    );
    assert_eq!(decode(&mut decoder, &[0xbf]), Err(Malformed::Index));
}

/// A header block, and the fields that it holds.
type Case = (Vec<u8>, Vec<Field>);

/// The archive of hpack-test-case (MIT, <https://github.com/http2jp/hpack-test-case>): in the folder that
/// `ONLOOKER_TEST_DATA` names, or in `shared/data` beside the checkout.
fn archive() -> Option<PathBuf> {
    const NAME: &str = "hpack-test-case.tar.xz";
    let named = std::env::var_os("ONLOOKER_TEST_DATA").map(|folder| Path::new(&folder).join(NAME));
    let beside = || {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/data"));
        folders.map(|folder| folder.join(NAME)).find(|file| file.exists())
    };
    named.or_else(beside)
}

/// Calls `check` with every story. Without the archive the test fails in CI, and is skipped elsewhere.
fn each_story(mut check: impl FnMut(&str, &[Case])) {
    let Some(archive) = archive() else {
        assert!(std::env::var_os("CI").is_none(), "hpack-test-case.tar.xz is missing: set ONLOOKER_TEST_DATA");
        skip();
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(folder.path()).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "tar cannot unpack {}", archive.display());
    let mut stories = 0;
    for encoder in std::fs::read_dir(folder.path()).expect("a folder").flatten().filter(|it| it.path().is_dir()) {
        for story in std::fs::read_dir(encoder.path()).expect("a folder").flatten() {
            let path = story.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                check(&path.display().to_string(), &cases(&path));
                stories += 1;
            }
        }
    }
    assert!(stories >= 100, "only {stories} stories in {}", archive.display());
}

#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
fn skip() {
    eprintln!("skipped: hpack-test-case.tar.xz is missing: set ONLOOKER_TEST_DATA");
}

fn cases(story: &Path) -> Vec<Case> {
    let text = std::fs::read(story).expect("a story");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let field = |field: &serde_json::Value| {
        let (name, value) = field.as_object().and_then(|field| field.iter().next()).expect("a field");
        Some((name.as_bytes().to_vec(), value.as_str().expect("a value").as_bytes().to_vec()))
    };
    let case = |case: &serde_json::Value| {
        let wire = hex::decode(case["wire"].as_str().expect("digits")).expect("digits");
        (wire, case["headers"].as_array().expect("fields").iter().map(field).collect())
    };
    json["cases"].as_array().expect("cases").iter().map(case).collect()
}

#[test]
fn all_stories_of_hpack_test_case_are_decoded() {
    each_story(|story, cases| {
        let mut decoder = Decoder::new(true);
        for (nth, (wire, fields)) in cases.iter().enumerate() {
            assert_eq!(decode(&mut decoder, wire).as_ref(), Ok(fields), "{story}, block {nth}");
        }
    });
}

/// The stories from later blocks on, or with a block that passes unseen.
#[test]
fn a_late_decoder_reports_unknown_fields_and_never_wrong_ones() {
    /// As many beginnings of a long story are tried.
    const BEGINNINGS: usize = 12;
    let (mut known, mut unknown) = (0, 0);
    each_story(|story, cases| {
        for begin in (1..cases.len()).step_by(cases.len().div_ceil(BEGINNINGS)) {
            let mut decoder = Decoder::new(false);
            for (nth, (wire, fields)) in cases.iter().enumerate().skip(begin) {
                if nth == begin + 2 {
                    decoder.miss();
                    continue;
                }
                let decoded = decode(&mut decoder, wire).unwrap_or_else(|error| panic!("{story}, {nth}: {error}"));
                assert_eq!(decoded.len(), fields.len(), "{story}, block {nth} from {begin}");
                for (decoded, field) in decoded.iter().zip(fields) {
                    assert!(decoded.is_none() || decoded == field, "{story}, block {nth} from {begin}: {decoded:?}");
                    *if decoded.is_some() { &mut known } else { &mut unknown } += 1;
                }
            }
        }
    });
    assert!(known >= unknown, "{known} known, {unknown} unknown");
}

/// Blocks that are made of valid parts more often than chance would have it.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (0x80_u8..0xc8).prop_map(|index| vec![index]),
        (0x40_u8..0x7f, "[a-z]{0,9}").prop_map(|(first, value)| literal(first, &value)),
        (0x00_u8..0x1f, "[a-z]{0,9}").prop_map(|(first, value)| literal(first, &value)),
        (0x20_u8..0x3f).prop_map(|size| vec![size]),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn literal(first: u8, value: &str) -> Vec<u8> {
    let name = if first & 0x3f == 0 || first == 0x10 { &[1, b'n'][..] } else { &[] };
    [&[first][..], name, &[value.len() as u8], value.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..chance::config(chance::regressions!("hpack")) })]

    /// Where both decode a block, the fields are the same. The other decoder is more lenient in what it accepts.
    #[test]
    fn another_decoder_finds_the_same_fields(blocks in prop::collection::vec(block(), 1..5)) {
        let (mut decoder, mut other) = (Decoder::new(true), loona_hpack::Decoder::new());
        for block in blocks {
            let (Ok(fields), Ok(others)) = (decode(&mut decoder, &block), other.decode(&block)) else { break };
            prop_assert_eq!(fields, others.into_iter().map(Some).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_late_decoder_never_disagrees_with_an_early_one(blocks in prop::collection::vec(block(), 1..5)) {
        let (mut early, mut late) = (Decoder::new(true), Decoder::new(false));
        for (nth, block) in blocks.iter().enumerate() {
            let Ok(fields) = decode(&mut early, block) else { break };
            if nth == 0 {
                continue;
            }
            let late = decode(&mut late, block).expect("what an early decoder accepts");
            prop_assert!(late.iter().zip(&fields).all(|(late, field)| late.is_none() || late == field));
        }
    }
}
