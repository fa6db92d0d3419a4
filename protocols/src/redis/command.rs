//! What a request asks: the command's name, how many arguments it has, and nothing of what they say.

use compact_str::CompactString;

use super::frame::{Kind, Token};
use crate::parser::Moment;

/// Arguments shown as `?`: enough to see what a command is, few enough to keep its text a matter of its shape.
const SHOWN: u64 = 8;

/// Commands whose first argument is a subcommand, and their subcommands. What is none of these may be anything.
const CONTAINERS: [(&str, &str); 16] = [
    ("ACL", "CAT DELUSER DRYRUN GENPASS GETUSER HELP LIST LOAD LOG SAVE SETUSER USERS WHOAMI"),
    (
        "CLIENT",
        "CACHING GETNAME GETREDIR HELP ID INFO KILL LIST MAINT_NOTIFICATIONS NO-EVICT NO-TOUCH PAUSE \
        REPLY SETINFO SETNAME TRACKING TRACKINGINFO UNBLOCK UNPAUSE",
    ),
    (
        "CLUSTER",
        "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNTKEYSINSLOT DELSLOTS FAILOVER FLUSHSLOTS FORGET \
        GETKEYSINSLOT HELP INFO KEYSLOT LINKS MEET MYID MYSHARDID NODES REPLICAS REPLICATE RESET \
        SAVECONFIG SETSLOT SHARDS SLAVES SLOTS",
    ),
    ("COMMAND", "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST"),
    ("CONFIG", "GET HELP RESETSTAT REWRITE SET"),
    ("DEBUG", "HELP JMAP OBJECT RELOAD SEGFAULT SLEEP STRINGMATCH-LEN"),
    ("FUNCTION", "DELETE DUMP FLUSH HELP KILL LIST LOAD RESTORE STATS"),
    ("LATENCY", "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST RESET"),
    ("MEMORY", "DOCTOR HELP MALLOC-STATS PURGE STATS USAGE"),
    ("MODULE", "HELP LIST LOAD LOADEX UNLOAD"),
    ("OBJECT", "ENCODING FREQ HELP IDLETIME REFCOUNT"),
    ("PUBSUB", "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB"),
    ("SCRIPT", "DEBUG EXISTS FLUSH HELP KILL LOAD"),
    ("SLOWLOG", "GET HELP LEN RESET"),
    ("XGROUP", "CREATE CREATECONSUMER DELCONSUMER DESTROY HELP SETID"),
    ("XINFO", "CONSUMERS GROUPS HELP STREAM"),
];

/// A request, as far as it was seen.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) start: Moment,
    /// Just past the last byte of it that passed.
    pub(super) end: Moment,
    /// Upper-case, without subcommand; empty where it was not captured, or is no word.
    pub(super) name: CompactString,
    pub(super) subcommand: Option<&'static str>,
    /// Arguments after the name, the subcommand among them; `None` where they were not counted.
    pub(super) arguments: Option<u64>,
    /// What SELECT or CLIENT REPLY ask for: the only arguments that are ever looked at.
    pub(super) choice: CompactString,
}

impl Request {
    /// `GET`, `CONFIG SET`.
    pub(super) fn operation(&self) -> CompactString {
        let mut operation = self.name.clone();
        if let Some(subcommand) = self.subcommand {
            operation.push(' ');
            operation.push_str(subcommand);
        }
        operation
    }

    /// The operation with a `?` for each argument.
    pub(super) fn text(&self) -> CompactString {
        let mut text = self.operation();
        if text.is_empty() {
            return text;
        }
        let hidden = self.arguments.map(|all| all.saturating_sub(u64::from(self.subcommand.is_some())));
        for _ in 0..hidden.unwrap_or(0).min(SHOWN) {
            text.push_str(" ?");
        }
        if hidden.is_none_or(|hidden| hidden > SHOWN) {
            text.push_str(" ...");
        }
        text
    }
}

/// Puts requests together from their tokens.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The one under way, once its name has passed.
    begun: Option<Moment>,
    /// Its first strings: the name, a subcommand, and what CLIENT REPLY asks for. Empty where not all of one is known.
    words: Vec<CompactString>,
    /// How many strings it has.
    strings: Option<u64>,
    /// It was told before all of it had passed.
    told: bool,
}

/// What a token did.
#[derive(Debug)]
pub(super) enum Progress {
    None,
    /// A request's name has passed; it began at this moment.
    Begun(Moment),
    /// All of a request has passed; the moment is given where only now it can be said to have begun.
    Whole(Option<Moment>, Request),
}

impl Requests {
    /// Takes a token that ends at `end`. `Err` for an inline command that nobody sends to Redis.
    pub(super) fn token(&mut self, token: &Token<'_>, end: Moment) -> Result<Progress, &'static str> {
        match token.kind {
            Kind::Inline => {
                self.inline(token)?;
                self.begun = Some(token.start);
                let request = self.cut(end);
                *self = Self::default();
                return Ok(request.map_or(Progress::None, |request| Progress::Whole(Some(token.start), request)));
            }
            Kind::Aggregate(strings) => self.strings = Some(strings),
            _ if self.words.len() < LOOKED_AT => {
                let text = if token.whole { token.text } else { &[] };
                self.words.push(CompactString::from_utf8_lossy(text));
            }
            _ => {}
        }
        let begins = self.words.len() == 1 && self.begun.is_none();
        if begins {
            self.begun = Some(token.start);
        }
        if token.ends_value {
            // An empty array is no command: Redis does not answer it.
            let request = self.cut(end);
            *self = Self::default();
            let begun = begins.then_some(token.start);
            return Ok(request.map_or(Progress::None, |request| Progress::Whole(begun, request)));
        }
        Ok(if begins { Progress::Begun(token.start) } else { Progress::None })
    }

    /// Whether a request is under way whose name has passed.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The request that is under way is told with what is known of it; its rest will not be.
    pub(super) fn cut(&mut self, end: Moment) -> Option<Request> {
        let start = self.begun?;
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(request(&self.words, self.strings, start, end))
    }

    fn inline(&mut self, token: &Token<'_>) -> Result<(), &'static str> {
        let line = String::from_utf8_lossy(token.text);
        let words = line.split_ascii_whitespace();
        self.words = words.clone().take(LOOKED_AT).map(CompactString::from).collect();
        // Where there are quotes, blanks don't say how many words there are.
        let counted = token.whole && !line.contains(['"', '\'']);
        self.strings = counted.then(|| words.clone().count() as u64);
        let is_http = words.clone().any(|word| word.starts_with("HTTP/1."));
        if is_http || !self.words.first().is_some_and(|name| is_word(name)) {
            return Err("no command of Redis");
        }
        Ok(())
    }
}

/// How many strings of a request are looked at.
const LOOKED_AT: usize = 3;

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn request(words: &[CompactString], strings: Option<u64>, start: Moment, end: Moment) -> Request {
    // No command has a digit in its name. What is none came from nobody that speaks to Redis, and may be a secret.
    let is_name = |name: &&CompactString| is_word(name) && !name.bytes().any(|byte| byte.is_ascii_digit());
    let name = words.first().filter(is_name).map_or_else(CompactString::default, |name| upper(name));
    let second = words.get(1).map(|word| upper(word)).unwrap_or_default();
    let subcommand = CONTAINERS
        .iter()
        .find(|(container, _)| *container == name)
        .and_then(|(_, known)| known.split(' ').find(|known| *known == second));
    let choice = match (name.as_str(), subcommand) {
        ("SELECT", _) => words.get(1).cloned(),
        ("CLIENT", Some("REPLY")) => words.get(2).map(|word| upper(word)),
        _ => None,
    };
    let arguments = strings.map(|strings| strings.saturating_sub(1));
    Request { start, end, name, subcommand, arguments, choice: choice.unwrap_or_default() }
}

fn upper(word: &str) -> CompactString {
    let mut word = CompactString::from(word);
    word.make_ascii_uppercase();
    word
}
