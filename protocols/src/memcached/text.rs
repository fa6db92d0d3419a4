//! The lines of the text protocol: commands and responses, classic and meta.
//!
//! <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>

use super::frame::Line;

/// The largest item that a server can be configured to store.
const LARGEST_DATA: u64 = 1 << 30;

/// A command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command<'l> {
    /// Empty for a command that no server knows: what stands in its place may be anything.
    pub(super) operation: &'static str,
    /// Bytes of data that follow the line.
    pub(super) data: Option<u64>,
    pub(super) answered: Answered,
    pub(super) keys: u32,
    /// The `k` and `O` flags of a meta command: what a response may repeat.
    pub(super) key: Option<&'l [u8]>,
    pub(super) opaque: Option<&'l [u8]>,
}

/// When a server responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Always,
    /// The server leaves out the response that the client can infer. It may still send one of these, or an error.
    Unless {
        sent: &'static [&'static str],
    },
    /// `noreply`, and `quit`.
    Never,
}

/// How the arguments of a command are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `get key key ...`, after so many other arguments.
    Keys { after: u32 },
    /// `set key flags exptime bytes [noreply]`: `bytes` is this word, and `noreply` the one of this index.
    Storage { noreply: usize },
    /// Whatever it is, with `noreply` at the end.
    Plain,
    /// `mg key flags...`, with the first flag at this index.
    Meta { flags: usize },
    /// No response, and the connection ends.
    Quit,
}

/// Commands, with the responses that a quiet meta command may have.
const COMMANDS: [(&str, Form, &[&str]); 35] = [
    ("get", Form::Keys { after: 0 }, &[]),
    ("gets", Form::Keys { after: 0 }, &[]),
    ("gat", Form::Keys { after: 1 }, &[]),
    ("gats", Form::Keys { after: 1 }, &[]),
    ("set", Form::Storage { noreply: 5 }, &[]),
    ("add", Form::Storage { noreply: 5 }, &[]),
    ("replace", Form::Storage { noreply: 5 }, &[]),
    ("append", Form::Storage { noreply: 5 }, &[]),
    ("prepend", Form::Storage { noreply: 5 }, &[]),
    ("cas", Form::Storage { noreply: 6 }, &[]),
    ("delete", Form::Plain, &[]),
    ("incr", Form::Plain, &[]),
    ("decr", Form::Plain, &[]),
    ("touch", Form::Plain, &[]),
    ("mg", Form::Meta { flags: 2 }, &["VA", "HD"]),
    ("ms", Form::Meta { flags: 3 }, &["NS", "EX", "NF"]),
    ("md", Form::Meta { flags: 2 }, &["EX"]),
    ("ma", Form::Meta { flags: 2 }, &["VA", "NS", "EX"]),
    ("mn", Form::Plain, &[]),
    ("me", Form::Plain, &[]),
    ("flush_all", Form::Plain, &[]),
    ("version", Form::Plain, &[]),
    ("verbosity", Form::Plain, &[]),
    ("stats", Form::Plain, &[]),
    ("slabs", Form::Plain, &[]),
    ("lru", Form::Plain, &[]),
    ("lru_crawler", Form::Plain, &[]),
    ("watch", Form::Plain, &[]),
    ("cache_memlimit", Form::Plain, &[]),
    ("extstore", Form::Plain, &[]),
    ("misbehave", Form::Plain, &[]),
    ("refresh_certs", Form::Plain, &[]),
    ("debugtime", Form::Plain, &[]),
    ("quit", Form::Quit, &[]),
    ("shutdown", Form::Quit, &[]),
];

/// After it, the server sends its log instead of responses.
pub(super) const WATCH: &str = "watch";

const UNKNOWN: Command<'static> =
    Command { operation: "", data: None, answered: Answered::Always, keys: 0, key: None, opaque: None };

impl<'l> Command<'l> {
    /// Reads a command line. A server refuses a length that is no number, and takes what follows for the next command.
    /// Fails if the length is larger than any server allows.
    pub(super) fn of(line: Line<'l>) -> Result<Self, &'static str> {
        let name = words(line.text).next().unwrap_or_default();
        let Some(&(operation, form, sent)) = COMMANDS.iter().find(|(known, ..)| known.as_bytes() == name) else {
            return Ok(UNKNOWN);
        };
        let command = Self { operation, ..UNKNOWN };
        let is_noreply = || words(line.text).next_back() == Some(b"noreply".as_slice());
        let never_if = |never| if never { Answered::Never } else { Answered::Always };
        Ok(match form {
            Form::Keys { after } => Self { keys: line.words.saturating_sub(1 + after), ..command },
            Form::Storage { noreply } => {
                let Some(length) = words(line.text).nth(4) else { return Ok(command) };
                let is_noreply = words(line.text).nth(noreply) == Some(b"noreply".as_slice());
                Self { data: announced(length)?, answered: never_if(is_noreply), keys: 1, ..command }
            }
            Form::Plain => Self { answered: never_if(is_noreply()), ..command },
            Form::Meta { flags } => {
                let data = match (flags, words(line.text).nth(2)) {
                    (3, Some(length)) => announced(length)?,
                    _ => None,
                };
                let key = words(line.text).nth(1);
                let flags = words(line.text).skip(flags);
                let is_quiet = flags.clone().any(|flag| flag == b"q");
                let answered = if is_quiet { Answered::Unless { sent } } else { Answered::Always };
                Self { data, answered, keys: 1, key, opaque: opaque(flags), ..command }
            }
            Form::Quit => Self { answered: Answered::Never, ..command },
        })
    }
}

/// A line of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply<'l> {
    /// Its first word.
    pub(super) code: &'l [u8],
    pub(super) then: Then,
    /// What a meta response repeats of its request.
    pub(super) key: Option<&'l [u8]>,
    pub(super) opaque: Option<&'l [u8]>,
}

/// What follows a line of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The response is over.
    End,
    /// Another line.
    Line,
    /// Data, and then another line.
    Item(u64),
    /// Data, and the response is over.
    Data(u64),
}

/// The code of a response to `mn`.
pub(super) const MN: &str = "MN";
/// Codes of errors.
pub(super) const ERRORS: [&str; 3] = ["ERROR", "CLIENT_ERROR", "SERVER_ERROR"];

impl<'l> Reply<'l> {
    /// Reads a line of a response. Fails if it is none.
    pub(super) fn of(line: Line<'l>) -> Result<Self, &'static str> {
        let code = words(line.text).next().unwrap_or_default();
        let is_meta = matches!(code, b"VA" | b"HD" | b"EN" | b"NS" | b"EX" | b"NF");
        let then = match code {
            b"VALUE" => Then::Item(data_length(words(line.text).nth(3).unwrap_or_default())?),
            b"VA" => Then::Data(data_length(words(line.text).nth(1).unwrap_or_default())?),
            b"STAT" | b"ITEM" | b"PREFIX" => Then::Line,
            // lru_crawler metadump and mgdump
            b"mg" => Then::Line,
            _ if code.starts_with(b"key=") => Then::Line,
            _ if is_meta || is_last_line(code) => Then::End,
            _ => return Err("a response that there is not"),
        };
        let flags = words(line.text).skip(if code == b"VA" { 2 } else { 1 });
        let key = flags.clone().filter(|_| is_meta).find_map(|flag| flag.strip_prefix(b"k"));
        Ok(Self { code, then, key, opaque: opaque(flags.filter(|_| is_meta)) })
    }

    /// The code, if it is an error's.
    pub(super) fn error(&self) -> Option<&'static str> {
        ERRORS.into_iter().find(|error| error.as_bytes() == self.code)
    }
}

fn is_last_line(code: &[u8]) -> bool {
    const WORDS: [&str; 21] = [
        "END",
        "STORED",
        "NOT_STORED",
        "EXISTS",
        "NOT_FOUND",
        "DELETED",
        "TOUCHED",
        "OK",
        "RESET",
        "VERSION",
        "ERROR",
        "CLIENT_ERROR",
        "SERVER_ERROR",
        "MN",
        "ME",
        "BUSY",
        "BADCLASS",
        "NOSPARE",
        "NOTFULL",
        "UNSAFE",
        "SAME",
    ];
    // incr and decr respond with the new value.
    let is_number = !code.is_empty() && code.len() <= 20 && code.iter().all(u8::is_ascii_digit);
    is_number || WORDS.iter().any(|word| word.as_bytes() == code)
}

fn opaque<'l>(mut flags: impl Iterator<Item = &'l [u8]>) -> Option<&'l [u8]> {
    flags.find_map(|flag| flag.strip_prefix(b"O"))
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    line.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

/// The length of the data that follows a command. `None` if it is no number.
fn announced(word: &[u8]) -> Result<Option<u64>, &'static str> {
    if word.iter().all(u8::is_ascii_digit) { data_length(word).map(Some) } else { Ok(None) }
}

fn data_length(word: &[u8]) -> Result<u64, &'static str> {
    const MOST_DIGITS: usize = 10;
    let is_number = !word.is_empty() && word.len() <= MOST_DIGITS && word.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(IMPOSSIBLE_LENGTH);
    }
    let length = word.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
    if length <= LARGEST_DATA { Ok(length) } else { Err(IMPOSSIBLE_LENGTH) }
}

const IMPOSSIBLE_LENGTH: &str = "data of an impossible length";
