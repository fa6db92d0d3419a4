//! Assembles replies: whether one is an error, and whether it answers a request.

use compact_str::CompactString;

use super::UNKNOWN_ERROR;
use super::frame::{Kind, Token};
use super::subscriptions::Subscriptions;
use crate::moment::Moment;

/// A complete reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) start: Moment,
    pub(super) end: Moment,
    pub(super) is_push: bool,
    /// An array that is not null. EXEC answers so if it executed.
    pub(super) is_array: bool,
    pub(super) simple: Simple,
    /// The first word of an error. Empty if the reply is no error.
    pub(super) error: CompactString,
    /// Whether one of its elements is an error.
    pub(super) has_errors: bool,
    pub(super) said: Said,
}

/// The simple strings that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Simple {
    #[default]
    Other,
    /// EXEC will execute the command.
    Queued,
    /// A line of MONITOR: `1339518083.107412 [0 127.0.0.1:60866] "get" "key"`.
    Monitored,
}

/// What an array is, by its first element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// The first element was not captured.
    Unknown,
    Message,
    /// A subscription was made or ended. The number is what is left of channels and patterns, or of shard channels.
    Confirmed(Subscriptions, u64),
}

impl Said {
    fn of(first: &[u8]) -> Self {
        match first {
            b"message" | b"pmessage" | b"smessage" => Self::Message,
            b"subscribe" | b"unsubscribe" => Self::Confirmed(Subscriptions::Channels, 0),
            b"psubscribe" | b"punsubscribe" => Self::Confirmed(Subscriptions::Patterns, 0),
            b"ssubscribe" | b"sunsubscribe" => Self::Confirmed(Subscriptions::ShardChannels, 0),
            _ => Self::Nothing,
        }
    }
}

/// Assembles replies from tokens.
#[derive(Debug, Default)]
pub(super) struct Replies {
    kind: Option<Kind>,
    /// Elements of the outermost aggregate so far.
    elements: u64,
    has_errors: bool,
    said: Said,
}

impl Replies {
    /// Takes a token that ends at `end`. Returns the reply that it completes.
    pub(super) fn token(&mut self, token: &Token<'_>, end: Moment) -> Option<Reply> {
        if token.depth == 0 {
            self.kind = Some(token.kind);
        }
        if token.depth == 1 {
            match (self.elements, self.said) {
                (0, _) => self.said = if token.whole { Said::of(token.text) } else { Said::Unknown },
                (2, Said::Confirmed(of, _)) => self.said = Said::Confirmed(of, number(token.text)),
                _ => {}
            }
            self.elements += 1;
            self.has_errors |= token.kind == Kind::Error;
        }
        if !token.ends_value {
            return None;
        }
        let Self { kind, has_errors, said, .. } = std::mem::take(self);
        let alone = |wanted| token.depth == 0 && token.kind == wanted;
        Some(Reply {
            start: token.start,
            end,
            is_push: kind == Some(Kind::Push),
            is_array: matches!(kind, Some(Kind::Aggregate(_))),
            simple: if alone(Kind::Simple) { simple(token.text) } else { Simple::Other },
            error: if alone(Kind::Error) { error_code(token) } else { CompactString::default() },
            has_errors,
            said,
        })
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.kind, Some(Kind::Aggregate(_)))
    }

    pub(super) fn is_push(&self) -> bool {
        self.kind == Some(Kind::Push)
    }
}

fn simple(text: &[u8]) -> Simple {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_monitored = || {
        let (_, rest) = text.split_at(digits(text));
        rest.strip_prefix(b".").is_some_and(|rest| rest[digits(rest)..].starts_with(b" ["))
    };
    match text {
        b"QUEUED" => Simple::Queued,
        [b'0'..=b'9', ..] if is_monitored() => Simple::Monitored,
        _ => Simple::Other,
    }
}

/// The code of an error: by convention an upper-case word. Nothing else of the message is kept.
fn error_code(token: &Token<'_>) -> CompactString {
    let mut words = token.text.split(u8::is_ascii_whitespace);
    let word = words.next().unwrap_or_default();
    let is_whole = token.whole || words.next().is_some();
    let of_codes = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    if is_whole && !word.is_empty() && word.iter().all(of_codes) {
        CompactString::from_utf8_lossy(word)
    } else {
        CompactString::from(UNKNOWN_ERROR)
    }
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
