//! Cuts one direction into RESP values of any depth, without keeping them.
//!
//! Strings are stepped over by their length, also through holes. Only the beginning of a line or string is kept. A hole
//! anywhere else loses the framing. Attributes are skipped.

use super::line::{CR_LF, KEPT, is_reply_type, is_value, length};
use super::whole::{plain_number, plain_string};
use crate::kit::pieces::Content;
use crate::moment::Moment;

/// The longest inline command that Redis accepts.
const LONGEST_INLINE: usize = 64 << 10;
/// The deepest nesting. Redis' own replies have a few levels.
const DEEPEST: usize = 64;
/// Twice the default of proto-max-bulk-len.
pub(super) const LONGEST_STRING: u64 = 1 << 30;

/// The direction, which decides the types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Arrays of strings and inline commands.
    Requests,
    /// Every type of RESP3.
    Replies,
}

/// A complete element of a value.
#[derive(Debug)]
pub(super) struct Token<'f> {
    pub(super) kind: Kind,
    /// The beginning of its content.
    pub(super) text: &'f [u8],
    /// Whether `text` is the whole content.
    pub(super) whole: bool,
    /// Its depth in the value. 0 is the value itself.
    pub(super) depth: usize,
    /// The first byte of the value.
    pub(super) start: Moment,
    /// Whether the value ends with it.
    pub(super) ends_value: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An inline command: one line without a type.
    Inline,
    /// A simple string.
    Simple,
    /// Any other string, a number, a boolean or null.
    Scalar,
    Error,
    /// An array, set or map, with its number of values.
    Aggregate(u64),
    /// RESP3: an array that answers no request.
    Push,
}

/// The result of one step.
#[derive(Debug)]
pub(super) enum Step<'f> {
    /// This many bytes were consumed and completed nothing.
    More(u64),
    /// This many bytes were consumed and completed a token.
    Token(u64, Token<'f>),
    /// The beginning of the next value is unknown.
    Lost,
}

/// The position of a direction in its values.
#[derive(Debug)]
pub(super) struct Frames {
    side: Side,
    element: Element,
    /// The beginning of the current line or string.
    text: Vec<u8>,
    /// The open aggregates, outermost first, and how many of them are attributes.
    open: Vec<Level>,
    attributes: usize,
    /// The first byte of the current value.
    start: Moment,
}

#[derive(Debug, Clone, Copy)]
enum Element {
    /// A line, with the number of its bytes so far.
    Line { passed: usize },
    /// A string of known length. `passed` includes its CR LF.
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

    /// Starts over: the next byte begins a value.
    pub(super) fn restart(&mut self) {
        self.element = NEXT;
        self.text.clear();
        self.open.clear();
        self.attributes = 0;
    }

    /// The first byte of the current value.
    pub(super) fn begun(&self) -> Option<Moment> {
        let between = self.open.is_empty() && matches!(self.element, Element::Line { passed: 0 });
        (!between).then_some(self.start)
    }

    /// Whether `bytes`, the first piece of a run, can begin a value: a request in RESP, or any reply.
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

    /// Consumes the bytes of at most one token. `content` is not empty. `Err` says why the bytes are no RESP.
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

    /// The next token of a reply, borrowed from the bytes. This is the fast path for a complete token. `None` consumes
    /// nothing, for tokens that are incomplete, rare or invalid.
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
            // Clients and servers send empty lines as keep-alive.
            _ if self.open.is_empty() && matches!(first, b'\r' | b'\n') => true,
            Side::Requests if self.open.is_empty() => first == b'*' || first.is_ascii_alphabetic(),
            Side::Requests => first == b'$',
            Side::Replies => is_reply_type(first),
        };
        if fits { Ok(()) } else { Err("no RESP type") }
    }

    /// Checks the length of an unfinished line. Text may be long, numbers may not.
    fn check_unfinished(&self, passed: usize) -> Result<(), &'static str> {
        let longest = match (self.side, self.text.first()) {
            (Side::Replies, Some(b'+' | b'-' | b'(')) => usize::MAX,
            (Side::Requests, Some(first)) if first.is_ascii_alphabetic() => LONGEST_INLINE,
            _ => KEPT,
        };
        if passed > longest { Err("a line without end") } else { Ok(()) }
    }

    /// Makes a token of a complete line, unless that is the length of what follows.
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
        let used = content.len().min(all - passed);
        if let Content::Bytes(bytes) = content {
            let taken = &bytes[..usize::try_from(used).map_or(bytes.len(), |used| used.min(bytes.len()))];
            let (text, end) = match usize::try_from(length.saturating_sub(passed)) {
                Ok(text) if text < taken.len() => taken.split_at(text),
                _ => (taken, &[][..]),
            };
            // Bytes after a hole do not continue the ones before.
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

    /// Completes a token, and the aggregates that end with it.
    fn finish(&mut self, kind: Kind, whole: bool, used: u64) -> Step<'_> {
        let (depth, is_hidden) = (self.open.len(), self.is_in_attribute());
        let ends_value = self.end_element();
        if is_hidden {
            return Step::More(used);
        }
        Step::Token(used, Token { kind, text: &self.text, whole, depth, start: self.start, ends_value })
    }

    /// Ends an element. Returns whether the value at depth 0 ends.
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
                // An attribute is no element. The value that it describes is still to come.
                return false;
            }
        }
        true
    }
}
