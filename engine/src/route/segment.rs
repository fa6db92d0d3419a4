//! Decides whether a segment of a path is a word of the program or a value of the request.
//!
//! One pass counts the classes of bytes. Rules then look for known forms (a UUID, a date), for known credentials, and last for
//! randomness: how often lower case, upper case and digits alternate.

mod credential;

use super::kind::Kind;

/// Lower-case letters and dashes up to this many bytes are a word without a closer look.
pub(super) const PLAIN_WORD: usize = 24;
/// More bytes of letters without digits are a title.
const LONGEST_WORD: usize = 40;
/// More words than this, joined by dashes, are a title.
const MOST_WORDS: usize = 5;
/// Random characters of this length count as a secret: 20 characters of base64 hold 120 bits. Shorter identifiers stay, as
/// YouTube's of 11.
const SHORTEST_TOKEN: usize = 20;
/// Identifiers in a single case (CUID, xid, ULID, names of pods) are no longer than this.
const LONGEST_ONE_CASE_ID: usize = 32;

/// Splits a segment without its parameters. `previous` is the segment before it. Joined together, the pieces are the segment.
pub(super) fn pieces<'s>(segment: &'s str, previous: &str, mut take: impl FnMut(&'s str, Kind)) {
    let bytes = segment.as_bytes();
    if is_version(bytes) {
        return take(segment, Kind::Word);
    }
    let shape = Shape::of(bytes);
    if shape.escapes + shape.ats > 0
        && let Some(parts) = credential::in_url(segment)
    {
        // One type for all callers, because this function calls itself.
        let take: &mut dyn FnMut(&'s str, Kind) = &mut take;
        for (part, is_secret) in parts {
            match is_secret {
                true => take(part, Kind::Token),
                false if part.is_empty() => {}
                false => pieces(part, previous, &mut *take),
            }
        }
        return;
    }
    // In `17:cancel`, `sha256:…` and `key=value`, the first half is the context of the second.
    if shape.marks == 1
        && let Some(at) = segment.find([':', '=']).filter(|at| at + 1 < bytes.len())
        && !credential::is_known(bytes)
    {
        let (first, rest) = segment.split_at(at);
        let (mark, second) = rest.split_at(1);
        take(first, credential::judged(first, whole(first), previous));
        take(mark, Kind::Word);
        return take(second, credential::judged(second, whole(second), first));
    }
    let kind = match shape.kind(bytes) {
        // `1,2,3` is one value. If one part is secret, all are.
        Kind::Id | Kind::Word if shape.marks > 0 && segment.split(is_mark).any(|part| whole(part) == Kind::Token) => {
            Kind::Token
        }
        Kind::Name if shape.escapes > 0 && holds_token(segment) => Kind::Token,
        Kind::Word if shape.marks > 0 && shape.digits > 0 => Kind::Id,
        Kind::Word if shape.marks == 0 && shape.dots > 0 => return file(segment, previous, take),
        kind => kind,
    };
    take(segment, credential::judged(segment, kind, previous));
}

/// A name with dots, as `app.3f2a9c.js`.
fn file<'s>(segment: &'s str, previous: &str, mut take: impl FnMut(&'s str, Kind)) {
    let mut left = segment;
    let mut first = true;
    while let Some(at) = left.find('.') {
        let (part, rest) = left.split_at(at);
        let (dot, next) = rest.split_at(1);
        let kind = match whole(part) {
            // `jquery-3.6.0.min.js`
            Kind::Id if !first && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()) => Kind::Word,
            Kind::Id if !first => Kind::Hash,
            kind => credential::judged(part, kind, previous),
        };
        take(part, kind);
        take(dot, Kind::Word);
        left = next;
        first = false;
    }
    take(left, credential::judged(left, whole(left), previous));
}

/// The kind of a piece that is not split any further.
fn whole(piece: &str) -> Kind {
    Shape::of(piece.as_bytes()).kind(piece.as_bytes())
}

/// Whether a part between marks, escaped or not, is a token.
fn holds_token(segment: &str) -> bool {
    segment.split('%').enumerate().any(|(escapes, part)| {
        // The two digits of the escape.
        let text = if escapes == 0 { part } else { part.get(2..).unwrap_or(part) };
        text.split(is_mark).any(|part| whole(part) == Kind::Token)
    })
}

fn is_mark(letter: char) -> bool {
    u8::try_from(letter).is_ok_and(|byte| CLASSES[usize::from(byte)] == Class::Mark)
}

/// Classes of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    /// `-` and `_`, which join words.
    Joint,
    Dot,
    At,
    /// `%`, and every byte outside ASCII.
    Escape,
    /// Every other byte.
    Mark,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Mark; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'a'..=b'z' => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'0'..=b'9' => Class::Digit,
            b'-' | b'_' => Class::Joint,
            b'.' => Class::Dot,
            b'@' => Class::At,
            b'%' | 0x80.. => Class::Escape,
            _ => Class::Mark,
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

/// The number of bytes of each class in a segment.
#[derive(Default)]
struct Shape {
    lower: usize,
    upper: usize,
    digits: usize,
    joints: usize,
    dots: usize,
    ats: usize,
    escapes: usize,
    marks: usize,
    /// How often lower case, upper case and digits alternate. An upper-case letter before a lower-case one begins a word, and
    /// does not count.
    changes: usize,
}

impl Shape {
    fn of(bytes: &[u8]) -> Self {
        let mut shape = Self::default();
        let mut previous = Class::Mark;
        let mut left = bytes.iter();
        while let Some(&byte) = left.next() {
            let class = CLASSES[usize::from(byte)];
            match class {
                Class::Lower => shape.lower += 1,
                Class::Upper => shape.upper += 1,
                Class::Digit => shape.digits += 1,
                Class::Joint => shape.joints += 1,
                Class::Dot => shape.dots += 1,
                Class::At => shape.ats += 1,
                Class::Mark => shape.marks += 1,
                Class::Escape => {
                    shape.escapes += 1;
                    // The two digits belong to the escape, not to the text.
                    if byte == b'%' {
                        let escaped = left.as_slice();
                        if escaped.starts_with(b"40") {
                            shape.ats += 1;
                        }
                        left = escaped.get(2..).unwrap_or_default().iter();
                    }
                }
            }
            shape.changes += usize::from(matches!(
                (previous, class),
                (Class::Lower, Class::Upper | Class::Digit)
                    | (Class::Upper, Class::Digit)
                    | (Class::Digit, Class::Lower | Class::Upper)
            ));
            previous = class;
        }
        shape
    }

    fn letters(&self) -> usize {
        self.lower + self.upper
    }

    /// Only letters, digits, dashes and underscores.
    fn plain(&self) -> bool {
        self.dots + self.ats + self.escapes + self.marks == 0
    }

    fn kind(&self, bytes: &[u8]) -> Kind {
        if self.is_known_id(bytes) {
            Kind::Id
        } else if is_date(bytes) {
            Kind::Date
        } else if credential::is_known(bytes) || self.looks_random() {
            Kind::Token
        } else if self.ats > 0 {
            if self.dots > 0 && CLASSES[usize::from(bytes[0])] != Class::At { Kind::Email } else { Kind::Name }
        } else if self.escapes > 0 {
            Kind::Name
        } else if self.letters() == 0 && self.digits > 0 {
            // Numbers, and numbers with anything between them: `10.0.0.1`, `1,2,3`.
            Kind::Id
        } else if self.dots + self.marks > 0 {
            // The caller splits it.
            Kind::Word
        } else if self.digits > 0 && bytes.split(|b| matches!(b, b'-' | b'_')).any(is_valued) {
            Kind::Id
        } else if bytes.len() > LONGEST_WORD || self.joints >= MOST_WORDS {
            Kind::Name
        } else {
            Kind::Word
        }
    }

    /// UUID, ULID, or hexadecimal of any length with a digit.
    fn is_known_id(&self, bytes: &[u8]) -> bool {
        if self.digits == 0 || !self.plain() {
            return false;
        }
        let hexadecimal = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
        match bytes.len() {
            36 if self.joints == 4 && [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') => {
                bytes.split(|b| *b == b'-').all(hexadecimal)
            }
            // Crockford's base 32. The first digit holds three bits.
            26 if self.joints == 0 && (self.lower == 0 || self.upper == 0) && matches!(bytes[0], b'0'..=b'7') => {
                !bytes.iter().any(|b| matches!(b.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U'))
            }
            8.. => hexadecimal(bytes.strip_prefix(b"0x").unwrap_or(bytes)),
            _ => false,
        }
    }

    /// Random base64 alternates at 45 % of its characters, and half of its letters are upper case. camelCase has one change
    /// and one upper-case letter per word. Of random base64, 97 % of 20 characters and 99 % of 32 show one of the two signs
    /// (measured). In a single case, only the length without a dash distinguishes a token from an identifier.
    fn looks_random(&self) -> bool {
        if self.dots > 0 {
            return false; // each part is judged by itself
        }
        let length = self.letters() + self.digits + self.joints;
        if self.lower > 0 && self.upper > 0 {
            let alternates = self.changes * 10 >= length * 3 || (self.digits > 2 && self.changes * 4 >= length);
            let mixes = self.upper.min(self.lower) * 3 >= self.letters() && self.joints * 5 < length;
            length >= SHORTEST_TOKEN && (alternates || mixes)
        } else {
            length > LONGEST_ONE_CASE_ID && self.digits > 0 && self.letters() > 0 && self.joints * 10 < length
        }
    }
}

/// Whether a part between dashes is a value: a number of at least three digits, or letters and digits mixed more than in
/// words of routes (`sha256`, `k8s`, `2fa`).
fn is_valued(part: &[u8]) -> bool {
    let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
    if digits == part.len() {
        return digits > 2;
    }
    let changes = part.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    digits > 3 || changes > 2 || (changes == 2 && digits > 2)
}

/// `v1`, `v2beta1`, `v1.2`: API versions are part of the route.
fn is_version(bytes: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = bytes else { return false };
    let number = |bytes: &[u8]| matches!(bytes.len(), 1..=3) && bytes.iter().all(u8::is_ascii_digit);
    let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(end);
    let minor = [b"alpha".as_slice(), b"beta", b"rc", b"p", b"."].iter().find_map(|mark| rest.strip_prefix(*mark));
    number(major) && (rest.is_empty() || minor.is_some_and(number))
}

/// ISO 8601: `2024-05`, `2024-05-17`, and a date with a time.
fn is_date(bytes: &[u8]) -> bool {
    let number = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    match bytes {
        [year @ .., b'-', m1, m2] if year.len() == 4 => number(year) && number(&[*m1, *m2]) && *m1 <= b'1',
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, time @ ..] => {
            number(&[*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]) && matches!(time, [] | [b'T' | b't' | b'_' | b'%', ..])
        }
        _ => false,
    }
}
