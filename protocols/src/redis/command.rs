//! The command of a request: its name and the number of its arguments.
//!
//! Keys and values are not read. Only three arguments matter: a container's subcommand, the database of SELECT and the
//! choice of CLIENT REPLY. None is kept as it was sent.

use compact_str::CompactString;

use super::frame::{Kind, Token};
use super::subscriptions::{Confirmations, Subscriptions};
use super::whole::WholeRequest;
use crate::moment::Moment;

/// The most arguments that a command's text shows. More would make too many different texts.
const SHOWN: &str = " ? ? ? ? ? ? ? ?";
const SHOWN_EACH: usize = " ?".len();

/// A request, as far as it was seen.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) start: Moment,
    /// Just past its last byte seen.
    pub(super) end: Moment,
    head: Head,
    /// The number of arguments after the name, including the subcommand. `None` if unknown.
    pub(super) arguments: Option<u64>,
}

/// The first strings of a request.
#[derive(Debug, Default)]
struct Head {
    /// Upper-case, without subcommand. Empty if it was not captured or is no word.
    name: CompactString,
    subcommand: Option<&'static str>,
    effect: Effect,
}

/// What a command changes on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Effect {
    #[default]
    None,
    /// Anything: its name was not captured or is no word.
    Unknown,
    /// SELECT. `None` if the database is no number.
    Select(Option<u32>),
    Reset,
    Exec,
    Discard,
    /// The SUBSCRIBE family. A confirmation for each channel answers it.
    Subscribe(Subscriptions),
    /// CLIENT REPLY
    Reply(Silence),
    /// SYNC and PSYNC: replication follows. PSYNC has a reply before that.
    Sync,
    Psync,
}

/// Which commands have no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Silence {
    #[default]
    No,
    /// CLIENT REPLY SKIP: the next one.
    Next,
    /// CLIENT REPLY OFF: all of them.
    UntilOn,
}

impl Request {
    /// A request that is complete in the bytes at `start`.
    pub(super) fn of(whole: &WholeRequest<'_>, start: Moment) -> Self {
        let mut head = Head::default();
        for (nth, word) in (0..whole.strings).zip(whole.words) {
            head.string(nth, word);
        }
        let (end, arguments) = (start.advanced(whole.length as u64), Some(whole.strings - 1));
        Self { start, end, head, arguments }
    }

    /// The confirmations that it waits for.
    pub(super) fn confirmations(&self) -> Confirmations {
        match (self.effect(), self.arguments) {
            (Effect::Subscribe(subscriptions), Some(0) | None) => Confirmations::All(subscriptions),
            (Effect::Subscribe(_), Some(channels)) => Confirmations::Left(channels),
            _ => Confirmations::None,
        }
    }

    pub(super) fn effect(&self) -> Effect {
        self.head.effect
    }

    /// Whether a subscriber may send it.
    pub(super) fn is_for_subscribers(&self) -> bool {
        matches!(self.head.name.as_str(), "PING" | "QUIT" | "RESET")
    }

    /// The operation (`GET`, `CONFIG SET`), and the text: the same with a `?` for each argument.
    pub(super) fn take_texts(&mut self) -> (CompactString, CompactString) {
        let mut operation = std::mem::take(&mut self.head.name);
        if operation.is_empty() {
            return (operation.clone(), operation);
        }
        let mut hidden = self.arguments;
        if let Some(subcommand) = self.head.subcommand {
            operation.push(' ');
            operation.push_str(subcommand);
            hidden = hidden.map(|all| all.saturating_sub(1));
        }
        let most = SHOWN.len() / SHOWN_EACH;
        let shown = hidden.map_or(0, |hidden| usize::try_from(hidden).map_or(most, |hidden| hidden.min(most)));
        let mut text = operation.clone();
        text.push_str(&SHOWN[..shown * SHOWN_EACH]);
        if hidden.is_none_or(|hidden| hidden > most as u64) {
            text.push_str(" ...");
        }
        (operation, text)
    }
}

/// Assembles requests from tokens.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Where the current request began, once its name is known.
    begun: Option<Moment>,
    head: Head,
    /// How many of its strings came, and how many it has.
    passed: u64,
    strings: Option<u64>,
    /// It was returned before its end.
    is_cut: bool,
}

/// What a token completes.
#[derive(Debug)]
pub(super) enum Progress {
    None,
    /// The name of a request that began at this moment.
    Begun(Moment),
    /// A request, with the moment of its beginning if it was not announced yet.
    Whole(Option<Moment>, Request),
}

impl Requests {
    /// Takes a token that ends at `end`. Fails if it is an inline command that Redis does not have.
    pub(super) fn token(&mut self, token: &Token<'_>, end: Moment) -> Result<Progress, &'static str> {
        match token.kind {
            Kind::Inline => self.inline(token)?,
            Kind::Aggregate(strings) => self.strings = Some(strings),
            _ => self.string(if token.whole { token.text } else { &[] }),
        }
        let begins = self.passed > 0 && self.begun.is_none();
        if begins {
            self.begun = Some(token.start);
        }
        let begun = begins.then_some(token.start);
        if token.ends_value {
            // An empty array is no command. Redis does not answer it.
            let request = self.cut(end);
            *self = Self::default();
            return Ok(request.map_or(Progress::None, |request| Progress::Whole(begun, request)));
        }
        Ok(begun.map_or(Progress::None, Progress::Begun))
    }

    /// Whether the name of the current request is known.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Returns the current request as far as it is known. Its rest will be ignored.
    pub(super) fn cut(&mut self, end: Moment) -> Option<Request> {
        let start = self.begun?;
        if std::mem::replace(&mut self.is_cut, true) {
            return None;
        }
        let arguments = self.strings.map(|strings| strings.saturating_sub(1));
        Some(Request { start, end, head: std::mem::take(&mut self.head), arguments })
    }

    /// Takes the next string. `text` is empty if the string is incomplete.
    fn string(&mut self, text: &[u8]) {
        self.head.string(self.passed, text);
        self.passed += 1;
    }

    fn inline(&mut self, token: &Token<'_>) -> Result<(), &'static str> {
        let words = || token.text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let is_http = words().any(|word| word.starts_with(b"HTTP/1."));
        if is_http || !words().next().is_some_and(is_word) {
            return Err("no command of Redis");
        }
        words().for_each(|word| self.string(word));
        // With quotes, blanks do not separate all words.
        let is_counted = token.whole && memchr::memchr2(b'"', b'\'', token.text).is_none();
        self.strings = is_counted.then_some(self.passed);
        Ok(())
    }
}

impl Head {
    /// Takes one of its strings.
    fn string(&mut self, nth: u64, text: &[u8]) {
        match (nth, self.effect) {
            (0, _) => {
                self.name = name(text);
                self.effect = effect(&self.name);
            }
            (1, Effect::Select(_)) => self.effect = Effect::Select(number(text)),
            (1, _) => self.subcommand = subcommand(&self.name, text),
            (2, _) if self.subcommand == Some("REPLY") => self.effect = reply(text),
            _ => {}
        }
    }
}

fn is_word(word: &[u8]) -> bool {
    word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// No command has a digit in its name. Any other word may be a secret and is not kept.
fn name(text: &[u8]) -> CompactString {
    let of_names = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b'.');
    let Ok(word) = std::str::from_utf8(text) else { return CompactString::default() };
    if !text.iter().all(of_names) {
        return CompactString::default();
    }
    let mut name = CompactString::new(word);
    name.make_ascii_uppercase();
    name
}

fn effect(name: &str) -> Effect {
    match name {
        "" => Effect::Unknown,
        "SELECT" => Effect::Select(None),
        "RESET" => Effect::Reset,
        "EXEC" => Effect::Exec,
        "DISCARD" => Effect::Discard,
        "SUBSCRIBE" | "UNSUBSCRIBE" => Effect::Subscribe(Subscriptions::Channels),
        "PSUBSCRIBE" | "PUNSUBSCRIBE" => Effect::Subscribe(Subscriptions::Patterns),
        "SSUBSCRIBE" | "SUNSUBSCRIBE" => Effect::Subscribe(Subscriptions::ShardChannels),
        "SYNC" => Effect::Sync,
        "PSYNC" => Effect::Psync,
        _ => Effect::None,
    }
}

fn reply(choice: &[u8]) -> Effect {
    let choices = [("ON", Silence::No), ("SKIP", Silence::Next), ("OFF", Silence::UntilOn)];
    let chosen = choices.into_iter().find(|(name, _)| choice.eq_ignore_ascii_case(name.as_bytes()));
    chosen.map_or(Effect::None, |(_, silence)| Effect::Reply(silence))
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn subcommand(container: &str, word: &[u8]) -> Option<&'static str> {
    subcommands(container).split_ascii_whitespace().find(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// The subcommands of a container command. Any other word may be a secret and is not kept.
fn subcommands(container: &str) -> &'static str {
    match container {
        "ACL" => "CAT DELUSER DRYRUN GENPASS GETUSER HELP LIST LOAD LOG SAVE SETUSER USERS WHOAMI",
        "CLIENT" => {
            "CACHING GETNAME GETREDIR HELP ID INFO KILL LIST MAINT_NOTIFICATIONS NO-EVICT NO-TOUCH PAUSE REPLY SETINFO \
             SETNAME TRACKING TRACKINGINFO UNBLOCK UNPAUSE"
        }
        "CLUSTER" => {
            "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNTKEYSINSLOT DELSLOTS FAILOVER FLUSHSLOTS FORGET GETKEYSINSLOT HELP \
             INFO KEYSLOT LINKS MEET MYID MYSHARDID NODES REPLICAS REPLICATE RESET SAVECONFIG SETSLOT SHARDS SLAVES SLOTS"
        }
        "COMMAND" => "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST",
        "CONFIG" => "GET HELP RESETSTAT REWRITE SET",
        "DEBUG" => "HELP JMAP OBJECT RELOAD SEGFAULT SLEEP STRINGMATCH-LEN",
        "FUNCTION" => "DELETE DUMP FLUSH HELP KILL LIST LOAD RESTORE STATS",
        "LATENCY" => "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST RESET",
        "MEMORY" => "DOCTOR HELP MALLOC-STATS PURGE STATS USAGE",
        "MODULE" => "HELP LIST LOAD LOADEX UNLOAD",
        "OBJECT" => "ENCODING FREQ HELP IDLETIME REFCOUNT",
        "PUBSUB" => "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB",
        "SCRIPT" => "DEBUG EXISTS FLUSH HELP KILL LOAD",
        "SLOWLOG" => "GET HELP LEN RESET",
        "XGROUP" => "CREATE CREATECONSUMER DELCONSUMER DESTROY HELP SETID",
        "XINFO" => "CONSUMERS GROUPS HELP STREAM",
        _ => "",
    }
}
