//! Cuts a direction into RESP values, however deeply nested, without keeping them.
//!
//! A string is stepped over by its length; only a line and a string's beginning are kept, as far as anybody asks.

use crate::parser::{Protocol, Unparsable};

/// Longest line: a simple string, an error, a number, an inline command. Redis itself takes inline commands of 64 KiB.
const LONGEST_LINE: usize = 64 << 10;
/// What is kept of a line or string: the longest command name, subcommand or error word is shorter.
const KEPT: usize = 64;
/// How deep values may be nested. Redis' own replies go a few levels deep.
const DEEPEST: usize = 64;
/// proto-max-bulk-len's default and some.
const LONGEST_STRING: u64 = 1 << 30;

/// Which first bytes there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Arrays of strings, and inline commands.
    Request,
    /// Every type of RESP3.
    Reply,
}

/// A finished piece of a value.
#[derive(Debug)]
pub(super) struct Token {
    /// How deep it is in a value: 0 is a value by itself.
    pub(super) depth: usize,
    pub(super) kind: Kind,
    /// The beginning of a line's or a string's content, at most [`KEPT`] bytes.
    pub(super) text: Vec<u8>,
    /// Whether the value at depth 0 ends with it.
    pub(super) ends_value: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An inline command: one line, no type.
    Inline,
    /// A bulk, verbatim or simple string, a number, boolean or null.
    Scalar,
    Error,
    /// An array, set or map.
    Aggregate,
    /// RESP3: told without having been asked for.
    Push,
    /// RESP3: a map that says something of the value after it.
    Attribute,
}

/// What one step did.
#[derive(Debug)]
pub(super) enum Step {
    /// So many bytes were taken and more are needed.
    More(usize),
    /// So many bytes were taken and finished a token.
    Token(usize, Token),
}

/// Where a direction is in its values.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of the line that is under way, and its whole length.
    line: Vec<u8>,
    line_length: usize,
    string: Option<OpenString>,
    /// Elements that the aggregates which are open still miss, outermost first.
    open: Vec<u64>,
}

/// A bulk string whose length is known.
#[derive(Debug)]
struct OpenString {
    kind: Kind,
    text: Vec<u8>,
    /// Bytes to come, with the CR LF.
    left: u64,
    length: u64,
}

fn unparsable(reason: &'static str) -> Unparsable {
    Unparsable { protocol: Protocol::Redis, reason }
}

impl Frames {
    /// Takes bytes until a token is finished. `bytes` is not empty.
    pub(super) fn step(&mut self, bytes: &[u8], kinds: Kinds) -> Result<Step, Unparsable> {
        if self.string.is_some() {
            return Ok(self.string_bytes(bytes));
        }
        let end = memchr::memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        let room = KEPT.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..used.min(room)]);
        self.line_length += used;
        self.check_first(kinds)?;
        if self.line_length > LONGEST_LINE {
            return Err(unparsable("a line without end"));
        }
        if end.is_none() {
            return Ok(Step::More(used));
        }
        let whole = self.line_length <= KEPT;
        let mut line = std::mem::take(&mut self.line);
        self.line_length = 0;
        while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            line.pop();
        }
        match self.line(line, whole, kinds)? {
            Some(token) => Ok(Step::Token(used, token)),
            None => Ok(Step::More(used)),
        }
    }

    /// Steps over `missing` bytes that are within a string; `false` where the framing is lost by them.
    pub(super) fn skip(&mut self, missing: u64) -> bool {
        match &mut self.string {
            // Its last byte must be seen: that is where the value's end is told.
            Some(string) if missing < string.left => {
                string.left -= missing;
                true
            }
            _ => false,
        }
    }

    fn check_first(&self, kinds: Kinds) -> Result<(), Unparsable> {
        let Some(&first) = self.line.first() else { return Ok(()) };
        let fits = match kinds {
            Kinds::Request if self.open.is_empty() => {
                first == b'*' || first.is_ascii_alphabetic() || matches!(first, b'\r' | b'\n')
            }
            Kinds::Request => first == b'$',
            Kinds::Reply => b"+-:$*_#,(!=%~>|.".contains(&first),
        };
        if fits { Ok(()) } else { Err(unparsable("no RESP type")) }
    }

    /// Makes a token of a finished line; none if it only announces a string, or is empty between commands.
    fn line(&mut self, line: Vec<u8>, whole: bool, kinds: Kinds) -> Result<Option<Token>, Unparsable> {
        let Some((&first, content)) = line.split_first() else { return Ok(None) };
        match first {
            b'$' | b'=' | b'!' => {
                let kind = if first == b'!' { Kind::Error } else { Kind::Scalar };
                let Some(length) = length(content, whole)? else { return Ok(Some(self.token(kind, Vec::new()))) };
                if length > LONGEST_STRING {
                    return Err(unparsable("a string of impossible length"));
                }
                self.string = Some(OpenString { kind, text: Vec::new(), left: length + 2, length });
                Ok(None)
            }
            b'*' | b'~' | b'%' | b'>' | b'|' => {
                let kind = match first {
                    b'>' => Kind::Push,
                    b'|' => Kind::Attribute,
                    _ => Kind::Aggregate,
                };
                let pairs = matches!(first, b'%' | b'|');
                let elements = length(content, whole)?.unwrap_or(0).saturating_mul(if pairs { 2 } else { 1 });
                self.aggregate(kind, elements).map(Some)
            }
            b'-' if kinds == Kinds::Reply => Ok(Some(self.token(Kind::Error, content.to_vec()))),
            _ if kinds == Kinds::Request => Ok(Some(self.token(Kind::Inline, line))),
            b'.' => Err(unparsable("a streamed aggregate")),
            _ => Ok(Some(self.token(Kind::Scalar, content.to_vec()))),
        }
    }

    fn string_bytes(&mut self, bytes: &[u8]) -> Step {
        let Some(string) = &mut self.string else { return Step::More(0) };
        let used = bytes.len().min(usize::try_from(string.left).unwrap_or(usize::MAX));
        // The beginning, as long as no hole came before it; without the CR LF.
        let passed = string.length + 2 - string.left;
        if passed == string.text.len() as u64 {
            let content = usize::try_from(string.length.saturating_sub(passed)).unwrap_or(usize::MAX);
            let room = KEPT - string.text.len();
            string.text.extend_from_slice(&bytes[..used.min(content).min(room)]);
        }
        string.left -= used as u64;
        if string.left > 0 {
            return Step::More(used);
        }
        match self.string.take() {
            Some(OpenString { kind, text, .. }) => Step::Token(used, self.token(kind, text)),
            None => Step::More(used),
        }
    }

    fn aggregate(&mut self, kind: Kind, elements: u64) -> Result<Token, Unparsable> {
        if elements == 0 && kind != Kind::Attribute {
            return Ok(self.token(kind, Vec::new()));
        }
        if self.open.len() == DEEPEST {
            return Err(unparsable("nested too deeply"));
        }
        let depth = self.open.len();
        // What an attribute is about comes after it and takes its place.
        self.open.push(if kind == Kind::Attribute { elements + 1 } else { elements });
        Ok(Token { depth, kind, text: Vec::new(), ends_value: false })
    }

    /// A token that is finished, and with it perhaps what it is the last element of.
    fn token(&mut self, kind: Kind, text: Vec<u8>) -> Token {
        let depth = self.open.len();
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                break;
            }
            self.open.pop();
        }
        Token { depth, kind, text, ends_value: self.open.is_empty() }
    }
}

/// The number after a type; `None` is RESP2's null.
fn length(content: &[u8], whole: bool) -> Result<Option<u64>, Unparsable> {
    if content == b"-1" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(content).ok().filter(|_| whole);
    let plain = digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    plain.and_then(|digits| digits.parse().ok()).map(Some).ok_or(unparsable("a length that is no number"))
}
