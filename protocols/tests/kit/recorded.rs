//! Conversations of real programs, recorded between them.
//!
//! A file has a line for each piece that was read: `>` for a request or `<` for a response, and the bytes in hexadecimal,
//! or `end` for the end of that direction.

use super::Talk;
use onlooker_protocols::Direction;

impl Talk {
    /// `name` is the file's, without its extension, in the folder of the protocol's fixtures.
    pub fn recorded(protocol: &str, name: &str) -> Self {
        let path = format!("{}/{protocol}/{name}.talk", fixtures());
        let lines = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        lines.lines().fold(Self::new(), |talk, line| match line.split_once(' ') {
            Some((">", "end")) => talk.end(Direction::ToServer),
            Some(("<", "end")) => talk.end(Direction::ToClient),
            Some((">", hex)) => talk.request(bytes(hex)),
            Some(("<", hex)) => talk.response(bytes(hex)),
            _ => panic!("neither request nor response in {path}: {line}"),
        })
    }

    /// The names of all recorded conversations of a protocol.
    pub fn all_recorded(protocol: &str) -> Vec<String> {
        let folder = format!("{}/{protocol}", fixtures());
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot read {folder}: {error}"));
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".talk")?.to_owned())).collect();
        names.sort();
        names
    }
}

fn fixtures() -> String {
    format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_else(|| panic!("no hexadecimal digit: {digit}"));
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("two digits are a byte");
    hex.as_bytes().chunks_exact(2).map(byte).collect()
}
