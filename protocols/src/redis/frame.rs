//! Cuts a direction into RESP values, however deeply nested, without keeping them.
//!
//! A string is stepped over by its length, through holes too; of a line or a string only the beginning is kept. A hole
//! anywhere else hides where values begin. Attributes say something of the value after them and are passed over.

use super::line::{is_reply_type, is_value, length};
use super::whole::{plain_number, plain_string};
use crate::parser::Moment;

/// What is kept of a line or string: the longest command name, subcommand or error word is shorter.
pub(super) const KEPT: usize = 64;
/// Longest inline command that Redis takes.
const LONGEST_INLINE: usize = 64 << 10;
/// How deep values may be nested. Redis' own replies go a few levels deep.
const DEEPEST: usize = 64;
/// Twice proto-max-bulk-len's default.
pub(super) const LONGEST_STRING: u64 = 1 << 30;
pub(super) const CR_LF: &[u8; 2] = b"\r\n";

/// What is spoken in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Arrays of strings, and inline commands.
    Requests,
    /// Every type of RESP3.
    Replies,
}

/// What passes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'b> {
    Bytes(&'b [u8]),
    Hole(u64),
}

impl Content<'_> {
    pub(super) fn length(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(missing) => missing,
        }
    }

    /// What is left when the first `used` bytes are taken.
    pub(super) fn after(self, used: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                Self::Bytes(&bytes[usize::try_from(used).map_or(bytes.len(), |at| at.min(bytes.len()))..])
            }
            Self::Hole(missing) => Self::Hole(missing.saturating_sub(used)),
        }
    }
}

/// A finished piece of a value.
#[derive(Debug)]
pub(super) struct Token<'f> {
    pub(super) kind: Kind,
    /// The beginning of a line's or a string's content.
    pub(super) text: &'f [u8],
    /// Whether that is all of it.
    pub(super) whole: bool,
    /// How deep it is in a value: 0 is a value by itself.
    pub(super) depth: usize,
    /// The first byte of the value that it belongs to.
    pub(super) start: Moment,
    /// Whether that value ends with it.
    pub(super) ends_value: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An inline command: one line, no type.
    Inline,
    /// A simple string.
    Simple,
    /// Another string, a number, boolean or null.
    Scalar,
    Error,
    /// An array, set or map of so many values.
    Aggregate(u64),
    /// RESP3: an array that nobody asked for.
    Push,
}

/// What one step did.
#[derive(Debug)]
pub(super) enum Step<'f> {
    /// So many bytes were taken and finished nothing.
    More(u64),
    /// So many bytes were taken and finished a token.
    Token(u64, Token<'f>),
    /// Where the next value begins is hidden.
    Lost,
}

/// Where a direction is in its values.
#[derive(Debug)]
pub(super) struct Frames {
    side: Side,
    element: Element,
    /// The beginning of the line or string that is under way.
    text: Vec<u8>,
    /// The aggregates that are open, outermost first, and how many of them are attributes.
    open: Vec<Level>,
    attributes: usize,
    /// The first byte of the value that is under way.
    start: Moment,
}

#[derive(Debug, Clone, Copy)]
enum Element {
    /// A line, of which so many bytes have passed.
    Line { passed: usize },
    /// A string whose length is known; its CR LF is counted with what has passed.
    String { kind: Kind, length: u64, passed: u64 },
}

const NEXT: Element = Element::Line { passed: 0 };

#[derive(Debug, Clone, Copy)]
struct Level {
    missing: u64,
    is_attribute: bool,
}

impl Frames {
    pub(super) fn new(side: Side) -> Self {
        Self { side, element: NEXT, text: Vec::new(), open: Vec::new(), attributes: 0, start: Moment::default() }
    }

    /// What passes next begins a value.
    pub(super) fn restart(&mut self) {
        self.element = NEXT;
        self.text.clear();
        self.open.clear();
        self.attributes = 0;
    }

    /// The first byte of the value that is under way.
    pub(super) fn begun(&self) -> Option<Moment> {
        let between = self.open.is_empty() && matches!(self.element, Element::Line { passed: 0 });
        (!between).then_some(self.start)
    }

    /// Whether `bytes`, the first piece of a run, can be the beginning of a value: a request with RESP around it, or
    /// any reply.
    pub(super) fn may_begin(&self, bytes: &[u8]) -> bool {
        match (self.side, bytes) {
            (_, []) => false,
            (Side::Replies, [first, ..]) => is_reply_type(*first),
            (Side::Requests, [b'*', rest @ ..]) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (digits, rest) = rest.split_at(digits);
                let expected = b"\r\n$";
                let seen = rest.len().min(expected.len());
                rest[..seen] == expected[..seen]
                    && (!digits.is_empty() || rest.is_empty())
                    && digits.first() != Some(&b'0')
            }
            _ => false,
        }
    }

    /// Takes of what passes as much as belongs to one token. `content` is not empty. `Err` names what is no RESP.
    pub(super) fn step<'f>(&'f mut self, content: Content<'f>, at: Moment) -> Result<Step<'f>, &'static str> {
        if let (Element::Line { passed: 0 }, Content::Bytes(bytes)) = (self.element, content)
            && let Some(plain) = self.plain(bytes, at)
        {
            return Ok(plain);
        }
        match (self.element, content) {
            (Element::Line { passed }, Content::Bytes(bytes)) => self.line(passed, bytes, at),
            (Element::Line { .. }, Content::Hole(_)) => Ok(Step::Lost),
            (Element::String { kind, length, passed }, _) => self.string(kind, length, passed, content),
        }
    }

    /// The next token of a reply where all of it is there, as it nearly always is: it is lent from the bytes, nothing is
    /// put together. `None`, and nothing is taken, for what is rare or wrong.
    fn plain<'b>(&mut self, bytes: &'b [u8], at: Moment) -> Option<Step<'b>> {
        if self.side == Side::Requests || self.attributes > 0 {
            return None;
        }
        let depth = self.open.len();
        let start = if depth == 0 { at } else { self.start };
        let (kind, text, used) = match *bytes.first()? {
            b'*' if depth < DEEPEST => {
                let (values, used) = plain_number(bytes).filter(|&(values, _)| values > 0)?;
                self.start = start;
                self.open.push(Level { missing: values, is_attribute: false });
                let kind = Kind::Aggregate(values);
                let token = Token { kind, text: &[], whole: true, depth, start, ends_value: false };
                return Some(Step::Token(used as u64, token));
            }
            b'$' => plain_string(bytes).map(|(text, used)| (Kind::Scalar, text, used))?,
            first @ (b'+' | b'-' | b':') => {
                let end = memchr::memchr(b'\n', &bytes[..bytes.len().min(KEPT)])?;
                let text = bytes[1..end].strip_suffix(b"\r").filter(|text| is_value(first, text, true))?;
                let kind = match first {
                    b'+' => Kind::Simple,
                    b'-' => Kind::Error,
                    _ => Kind::Scalar,
                };
                (kind, text, end + 1)
            }
            _ => return None,
        };
        self.start = start;
        let whole = text.len() <= KEPT;
        let text = &text[..text.len().min(KEPT)];
        let token = Token { kind, text, whole, depth, start, ends_value: self.end_element() };
        Some(Step::Token(used as u64, token))
    }

    fn line(&mut self, passed: usize, bytes: &[u8], at: Moment) -> Result<Step<'_>, &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        if passed == 0 {
            if self.open.is_empty() {
                self.start = at;
            }
            self.text.clear();
            self.check_first(bytes[0])?;
        }
        let room = KEPT.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..used.min(room)]);
        let passed = passed.saturating_add(used);
        if end.is_none() {
            self.check_unfinished(passed)?;
            self.element = Element::Line { passed };
            return Ok(Step::More(used as u64));
        }
        self.element = NEXT;
        let whole = passed <= KEPT;
        if whole {
            let content = self.text.strip_suffix(CR_LF).or(self.text.strip_suffix(b"\n")).map_or(0, <[u8]>::len);
            self.text.truncate(content);
        }
        self.announced(whole, used as u64)
    }

    fn check_first(&self, first: u8) -> Result<(), &'static str> {
        let fits = match self.side {
            // Clients and servers send empty lines to keep a connection alive.
            _ if self.open.is_empty() && matches!(first, b'\r' | b'\n') => true,
            Side::Requests if self.open.is_empty() => first == b'*' || first.is_ascii_alphabetic(),
            Side::Requests => first == b'$',
            Side::Replies => is_reply_type(first),
        };
        if fits { Ok(()) } else { Err("no RESP type") }
    }

    /// Lines of text may be long, numbers are not.
    fn check_unfinished(&self, passed: usize) -> Result<(), &'static str> {
        let longest = match (self.side, self.text.first()) {
            (Side::Replies, Some(b'+' | b'-' | b'(')) => usize::MAX,
            (Side::Requests, Some(first)) if first.is_ascii_alphabetic() => LONGEST_INLINE,
            _ => KEPT,
        };
        if passed > longest { Err("a line without end") } else { Ok(()) }
    }

    /// Makes a token of a finished line, unless it only announces what follows.
    fn announced(&mut self, whole: bool, used: u64) -> Result<Step<'_>, &'static str> {
        let Some((&first, content)) = self.text.split_first() else { return Ok(Step::More(used)) };
        let is_reply = self.side == Side::Replies;
        match first {
            b'$' | b'=' | b'!' => {
                let kind = if first == b'!' { Kind::Error } else { Kind::Scalar };
                let Some(length) = length(content, whole)? else {
                    self.text.clear();
                    return Ok(self.finish(kind, true, used));
                };
                if length > LONGEST_STRING {
                    return Err("a string of impossible length");
                }
                self.text.clear();
                self.element = Element::String { kind, length, passed: 0 };
                Ok(Step::More(used))
            }
            b'*' | b'~' | b'%' | b'>' | b'|' => {
                let elements = length(content, whole)?;
                let values = elements.unwrap_or(0).saturating_mul(if matches!(first, b'%' | b'|') { 2 } else { 1 });
                self.text.clear();
                match (first, elements) {
                    (b'|', _) => self.open(values, true).map(|()| Step::More(used)),
                    (_, None) if is_reply => Ok(self.finish(Kind::Scalar, true, used)),
                    (b'>', _) => self.aggregate(Kind::Push, values, used),
                    _ => self.aggregate(Kind::Aggregate(values), values, used),
                }
            }
            _ if !is_reply => Ok(self.finish(Kind::Inline, whole, used)),
            _ => {
                if !is_value(first, content, whole) {
                    return Err("no value of its type");
                }
                self.text.remove(0);
                let kind = match first {
                    b'-' => Kind::Error,
                    b'+' => Kind::Simple,
                    _ => Kind::Scalar,
                };
                Ok(self.finish(kind, whole, used))
            }
        }
    }

    fn string(&mut self, kind: Kind, length: u64, passed: u64, content: Content<'_>) -> Result<Step<'_>, &'static str> {
        let all = length + CR_LF.len() as u64;
        let used = content.length().min(all - passed);
        if let Content::Bytes(bytes) = content {
            let taken = &bytes[..usize::try_from(used).map_or(bytes.len(), |used| used.min(bytes.len()))];
            let (text, end) = match usize::try_from(length.saturating_sub(passed)) {
                Ok(text) if text < taken.len() => taken.split_at(text),
                _ => (taken, &[][..]),
            };
            // What follows a hole doesn't continue what precedes it.
            if passed == self.text.len() as u64 {
                let room = KEPT - self.text.len();
                self.text.extend_from_slice(&text[..text.len().min(room)]);
            }
            let seen_before = usize::try_from(passed.saturating_sub(length)).unwrap_or(0);
            if !end.is_empty() && !CR_LF[seen_before..].starts_with(end) {
                return Err("a string longer than its length");
            }
        }
        let passed = passed + used;
        if passed < all {
            self.element = Element::String { kind, length, passed };
            return Ok(Step::More(used));
        }
        self.element = NEXT;
        let whole = self.text.len() as u64 == length;
        Ok(self.finish(kind, whole, used))
    }

    fn aggregate(&mut self, kind: Kind, values: u64, used: u64) -> Result<Step<'_>, &'static str> {
        if values == 0 {
            return Ok(self.finish(kind, true, used));
        }
        let depth = self.open.len();
        let is_hidden = self.is_in_attribute();
        self.open(values, false)?;
        if is_hidden {
            return Ok(Step::More(used));
        }
        let token = Token { kind, text: &[], whole: true, depth, start: self.start, ends_value: false };
        Ok(Step::Token(used, token))
    }

    fn open(&mut self, missing: u64, is_attribute: bool) -> Result<(), &'static str> {
        if self.open.len() == DEEPEST {
            return Err("nested too deeply");
        }
        if missing > 0 {
            self.open.push(Level { missing, is_attribute });
            self.attributes += usize::from(is_attribute);
        }
        Ok(())
    }

    fn is_in_attribute(&self) -> bool {
        self.attributes > 0
    }

    /// A token is finished, and with it perhaps what it is the last element of.
    fn finish(&mut self, kind: Kind, whole: bool, used: u64) -> Step<'_> {
        let (depth, is_hidden) = (self.open.len(), self.is_in_attribute());
        let ends_value = self.end_element();
        if is_hidden {
            return Step::More(used);
        }
        Step::Token(used, Token { kind, text: &self.text, whole, depth, start: self.start, ends_value })
    }

    /// Whether the value at depth 0 ends.
    fn end_element(&mut self) -> bool {
        while let Some(level) = self.open.last_mut() {
            level.missing -= 1;
            if level.missing > 0 {
                return false;
            }
            let is_attribute = level.is_attribute;
            self.open.pop();
            if is_attribute {
                self.attributes -= 1;
                // It takes no place: the value that it describes is still to come.
                return false;
            }
        }
        true
    }
}
