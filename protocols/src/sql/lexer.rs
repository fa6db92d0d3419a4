//! Cuts SQL into tokens, as finely as needed to distinguish literals and names.
//!
//! Every byte belongs to exactly one token or to the space before it, and is read a bounded number of times. A string or
//! comment without an end reaches to the end of the text.

use memchr::{memchr, memchr2, memmem};

use super::Dialect;
use super::keyword::{Keyword, Packed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unquoted name or keyword.
    Word(Keyword),
    /// A name in the quotes of its dialect. The text includes the quotes.
    Quoted,
    Literal,
    /// `$1` and `?`.
    Placeholder,
    /// Any other byte.
    Mark(u8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Whether white space or comments precede it.
    pub(super) spaced: bool,
}

#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    sql: &'a [u8],
    at: usize,
    dialect: Dialect,
    is_ambiguous: bool,
}

/// What a backslash means in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// It is a character as any other.
    Plain,
    /// It escapes the next byte.
    Escapes,
    /// It is unknown which of both.
    Unknown,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { text, sql: text.as_bytes(), at: 0, dialect, is_ambiguous: false }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.sql.len()
    }

    /// Whether the text can be read in two ways, and its end was hidden for that reason.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let spaced = self.skip_space();
        let start = self.at;
        let first = *self.sql.get(start)?;
        let kind = self.scan(first);
        Some(Token { kind, text: &self.text[start..self.at], spaced })
    }

    /// Moves past the token that begins with `first` and returns its kind.
    fn scan(&mut self, first: u8) -> Kind {
        let mysql = self.dialect == Dialect::MySql;
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word(),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            b'\'' => self.string(b'\'', self.backslash()),
            b'"' if mysql => self.string(b'"', Backslash::Escapes),
            b'"' => self.quoted(b'"'),
            b'`' if mysql => self.quoted(b'`'),
            b'$' if mysql => self.word(),
            b'$' => self.dollar(),
            b'?' => {
                self.at += 1;
                Kind::Placeholder
            }
            _ => {
                self.at += 1;
                Kind::Mark(first)
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.sql[self.at..]
    }

    /// Moves past `count` bytes, or to the end of the text for `None`. Returns whether there was a count.
    fn advance(&mut self, count: Option<usize>) -> bool {
        self.at = count.map_or(self.sql.len(), |count| (self.at + count).min(self.sql.len()));
        count.is_some()
    }

    /// Moves past white space and comments. Returns whether there were any.
    pub(super) fn skip_space(&mut self) -> bool {
        let start = self.at;
        while let Some(byte @ ..=b'/') = self.peek(0) {
            match byte {
                // Vertical tab is white space to PostgreSQL and MySQL, but not to Rust.
                b'\t'..=b'\r' | b' ' => self.at += 1,
                b'/' if self.begins_comment() => self.skip_comment(),
                b'-' | b'#' if self.begins_comment() => {
                    self.advance(self.line_end(self.rest()));
                }
                _ => break,
            }
        }
        self.at > start
    }

    fn begins_comment(&self) -> bool {
        let mysql = self.dialect == Dialect::MySql;
        match (self.peek(0), self.peek(1)) {
            (Some(b'-'), Some(b'-')) => !mysql || self.is_mysql_dashes(),
            (Some(b'/'), Some(b'*')) => true,
            (Some(b'#'), _) => mysql,
            _ => false,
        }
    }

    /// The length of a comment that ends with its line.
    fn line_end(&self, comment: &[u8]) -> Option<usize> {
        if self.dialect == Dialect::MySql { memchr(b'\n', comment) } else { memchr2(b'\n', b'\r', comment) }
    }

    /// MySQL requires white space or the end of the text after the dashes of a comment.
    fn is_mysql_dashes(&self) -> bool {
        self.peek(2).is_none_or(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control())
    }

    /// Moves past a comment between `/*` and `*/`. PostgreSQL nests them, MySQL does not.
    fn skip_comment(&mut self) {
        let nests = self.dialect != Dialect::MySql;
        let mut depth = 1_usize;
        self.at += 2;
        while depth > 0 && self.advance(memchr2(b'*', b'/', self.rest())) {
            let pair = (self.peek(0), self.peek(1));
            match pair {
                (Some(b'*'), Some(b'/')) => depth -= 1,
                (Some(b'/'), Some(b'*')) if nests => depth += 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
        }
    }

    /// What a backslash means in a string without a prefix.
    fn backslash(&self) -> Backslash {
        match self.dialect {
            Dialect::Postgres => Backslash::Plain,
            Dialect::PostgresUnknown => Backslash::Unknown,
            Dialect::PostgresEscaping | Dialect::MySql => Backslash::Escapes,
        }
    }

    /// What a backslash means in a string that has no escapes in PostgreSQL. A program that escapes elsewhere may have
    /// meant an escape, even if the server rejects it.
    fn unescaped_backslash(&self) -> Backslash {
        match self.dialect {
            Dialect::Postgres => Backslash::Plain,
            Dialect::PostgresEscaping | Dialect::PostgresUnknown => Backslash::Unknown,
            Dialect::MySql => Backslash::Escapes,
        }
    }

    /// Moves past a string, from its opening quote. A doubled quote is part of the string. In PostgreSQL a string may
    /// continue on another line.
    ///
    /// If it is unknown whether a backslash escapes a quote, what follows is in a string in one reading or the other. So
    /// the string reaches to the end of the text.
    fn string(&mut self, quote: u8, backslash: Backslash) -> Kind {
        self.at += 1;
        loop {
            let rest = self.rest();
            let found = match backslash {
                Backslash::Plain => memchr(quote, rest),
                Backslash::Escapes | Backslash::Unknown => memchr2(quote, b'\\', rest),
            };
            if !self.advance(found) {
                return Kind::Literal;
            }
            if backslash == Backslash::Unknown && self.rest().starts_with(&[b'\\', quote]) {
                self.is_ambiguous = true;
                self.at = self.sql.len();
                return Kind::Literal;
            }
            if self.peek(0) == Some(quote) && self.peek(1) != Some(quote) {
                self.at += 1;
                let Some(continued) = self.continuation() else { return Kind::Literal };
                self.at = continued + 1;
                continue;
            }
            // A doubled quote, or a backslash with what it escapes.
            self.advance(Some(2));
        }
    }

    /// The position of the quote that continues the string that ended here. Between them is white space with an end of
    /// line, and comments to the end of their line (`quotecontinue` in PostgreSQL's scan.l).
    fn continuation(&self) -> Option<usize> {
        if self.dialect == Dialect::MySql {
            return None;
        }
        let mut at = self.at;
        let mut on_new_line = false;
        loop {
            match &self.sql[at..] {
                [b'\'', ..] if on_new_line => return Some(at),
                [b'\n' | b'\r', ..] => on_new_line = true,
                [b' ' | b'\t'..=b'\r', ..] => {}
                // The end of the line is the next byte.
                [b'-', b'-', comment @ ..] => at += 1 + self.line_end(comment)?,
                _ => return None,
            }
            at += 1;
        }
    }

    /// A quoted name. Without an end it is a literal, because it may contain literals.
    fn quoted(&mut self, quote: u8) -> Kind {
        self.at += 1;
        while self.advance(memchr(quote, self.rest())) {
            if self.peek(1) != Some(quote) {
                self.at += 1;
                return Kind::Quoted;
            }
            self.at += 2;
        }
        Kind::Literal
    }

    /// PostgreSQL: `$1`, `$tag$string$tag$`, or a lone dollar.
    fn dollar(&mut self) -> Kind {
        let tag = 1 + self.rest()[1..].iter().take_while(|&&byte| byte != b'$' && is_word(byte)).count();
        let starts_with_digit = self.peek(1).is_some_and(|byte| byte.is_ascii_digit());
        match self.peek(tag) {
            _ if starts_with_digit => {
                let digits = self.rest()[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                self.at += 1 + digits;
                Kind::Placeholder
            }
            Some(b'$') => {
                let rest = self.rest();
                let (delimiter, body) = rest.split_at(tag + 1);
                self.advance(memmem::find(body, delimiter).map(|found| found + 2 * delimiter.len()));
                Kind::Literal
            }
            // Truncated in the tag of a string.
            None => {
                self.at = self.sql.len();
                Kind::Literal
            }
            Some(_) => {
                self.at += 1;
                Kind::Mark(b'$')
            }
        }
    }

    /// Digits and all characters that adjoin them: `1_000`, `1.5e-3`, `0xFF`, also if no database accepts them. In
    /// PostgreSQL a dollar behind a number begins a string, and until version 14 a keyword may follow directly.
    fn number(&mut self) -> Kind {
        let mysql = self.dialect == Dialect::MySql;
        let start = self.at;
        let hexadecimal = self.peek(0) == Some(b'0') && matches!(self.peek(1), Some(b'x' | b'X'));
        let mut last = b'0';
        while let Some(byte) = self.peek(0) {
            let signs_exponent = matches!(byte, b'+' | b'-') && matches!(last, b'e' | b'E') && !hexadecimal;
            let begins_string = byte == b'$' && !mysql;
            if begins_string || !(is_word(byte) || byte == b'.' || signs_exponent) {
                break;
            }
            last = byte;
            self.at += 1;
        }
        if !mysql && last.is_ascii_alphabetic() {
            self.at = self.keyword_in(start).unwrap_or(self.at);
        }
        Kind::Literal
    }

    /// The position of the keyword that adjoins the number at `start`.
    #[cold]
    fn keyword_in(&self, start: usize) -> Option<usize> {
        let digits = |at: usize| {
            let is_digit = |&&byte: &&u8| byte.is_ascii_digit() || byte == b'_';
            at + self.sql.get(at..).unwrap_or_default().iter().take_while(is_digit).count()
        };
        let mut end = digits(start);
        if self.sql.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        let exponent = match self.sql.get(end..)? {
            [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => end + 2,
            [b'e' | b'E', b'0'..=b'9', ..] => end + 1,
            _ => end,
        };
        let end = if exponent > end { digits(exponent) } else { end };
        let word = self.sql.get(end..)?;
        let length = word.iter().take_while(|&&byte| is_word(byte)).count();
        (length > 0 && follows_number(Packed::new(word, length).keyword())).then_some(end)
    }

    fn word(&mut self) -> Kind {
        let rest = self.rest();
        let length = rest.iter().take_while(|&&byte| is_word(byte)).count();
        self.at += length;
        if let Some(b'\'' | b'"' | b'&') = self.peek(0)
            && let Some(prefixed) = self.prefixed(&rest[..length])
        {
            return prefixed;
        }
        match Packed::new(rest, length).keyword() {
            // OTel semconv, "Sanitization of db.query.text": booleans are literals.
            Keyword::True | Keyword::False => Kind::Literal,
            keyword => Kind::Word(keyword),
        }
    }

    /// A string or name with a prefix. `None` if `prefix` is a word of its own.
    fn prefixed(&mut self, prefix: &[u8]) -> Option<Kind> {
        let mysql = self.dialect == Dialect::MySql;
        Some(match (prefix, self.peek(0)?) {
            // Escapes, national characters, bits, hexadecimal, MySQL's _utf8mb4'...'.
            ([b'e' | b'E'], b'\'') => self.string(b'\'', Backslash::Escapes),
            ([b'n' | b'N'], b'\'') => self.string(b'\'', self.backslash()),
            // PostgreSQL's bits have no escapes. CockroachDB's bytes have them.
            ([b'b'], b'\'') if !mysql => self.string(b'\'', Backslash::Unknown),
            ([b'b' | b'B' | b'x' | b'X'], b'\'') => self.string(b'\'', self.unescaped_backslash()),
            ([b'_', ..], quote @ (b'\'' | b'"')) if mysql => self.string(quote, Backslash::Escapes),
            // Unicode escapes: U&'...' is a string, U&"..." is a name.
            ([b'u' | b'U'], b'&') if !mysql => match self.peek(1)? {
                b'\'' => {
                    self.at += 1;
                    self.string(b'\'', self.unescaped_backslash())
                }
                b'"' => {
                    self.at += 1;
                    self.quoted(b'"')
                }
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Whether a number may stand directly before the keyword.
fn follows_number(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::And
            | Keyword::As
            | Keyword::Asc
            | Keyword::Between
            | Keyword::Desc
            | Keyword::Else
            | Keyword::End
            | Keyword::Except
            | Keyword::Fetch
            | Keyword::For
            | Keyword::From
            | Keyword::Group
            | Keyword::Having
            | Keyword::Ilike
            | Keyword::In
            | Keyword::Intersect
            | Keyword::Is
            | Keyword::Like
            | Keyword::Limit
            | Keyword::Not
            | Keyword::Offset
            | Keyword::On
            | Keyword::Or
            | Keyword::Order
            | Keyword::Returning
            | Keyword::Then
            | Keyword::Union
            | Keyword::When
            | Keyword::Where
            | Keyword::Window
    )
}

fn is_word(byte: u8) -> bool {
    /// By byte: letters, digits, `_`, `$` and everything beyond ASCII.
    const WORD: [bool; 256] = {
        let mut word = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let ascii = byte as u8;
            word[byte] = ascii.is_ascii_alphanumeric() || ascii == b'_' || ascii == b'$' || byte >= 0x80;
            byte += 1;
        }
        word
    };
    WORD[usize::from(byte)]
}
