//! What a request asks: the command's name, how many arguments it has, and nothing of what they say.

use compact_str::{CompactString, ToCompactString as _};

use super::frame::{Kind, Token};
use crate::parser::Moment;

/// Arguments shown as `?`: enough to see what a command is, few enough to keep its text a matter of its shape.
const SHOWN: u64 = 8;

/// Commands whose first argument is a subcommand, and their subcommands. What is none of these may be anything.
const CONTAINERS: [(&str, &[&str]); 16] = [
    (
        "ACL",
        &[
            "CAT", "DELUSER", "DRYRUN", "GENPASS", "GETUSER", "HELP", "LIST", "LOAD", "LOG", "SAVE", "SETUSER",
            "USERS", "WHOAMI",
        ],
    ),
    (
        "CLIENT",
        &[
            "CACHING",
            "GETNAME",
            "GETREDIR",
            "HELP",
            "ID",
            "INFO",
            "KILL",
            "LIST",
            "NO-EVICT",
            "NO-TOUCH",
            "PAUSE",
            "REPLY",
            "SETINFO",
            "SETNAME",
            "TRACKING",
            "TRACKINGINFO",
            "UNBLOCK",
            "UNPAUSE",
        ],
    ),
    (
        "CLUSTER",
        &[
            "ADDSLOTS",
            "ADDSLOTSRANGE",
            "BUMPEPOCH",
            "COUNTKEYSINSLOT",
            "DELSLOTS",
            "FAILOVER",
            "FLUSHSLOTS",
            "FORGET",
            "GETKEYSINSLOT",
            "HELP",
            "INFO",
            "KEYSLOT",
            "LINKS",
            "MEET",
            "MYID",
            "MYSHARDID",
            "NODES",
            "REPLICAS",
            "REPLICATE",
            "RESET",
            "SAVECONFIG",
            "SETSLOT",
            "SHARDS",
            "SLAVES",
            "SLOTS",
        ],
    ),
    ("COMMAND", &["COUNT", "DOCS", "GETKEYS", "GETKEYSANDFLAGS", "HELP", "INFO", "LIST"]),
    ("CONFIG", &["GET", "HELP", "RESETSTAT", "REWRITE", "SET"]),
    ("DEBUG", &["HELP", "JMAP", "OBJECT", "RELOAD", "SEGFAULT", "SLEEP", "STRINGMATCH-LEN"]),
    ("FUNCTION", &["DELETE", "DUMP", "FLUSH", "HELP", "KILL", "LIST", "LOAD", "RESTORE", "STATS"]),
    ("LATENCY", &["DOCTOR", "GRAPH", "HELP", "HISTOGRAM", "HISTORY", "LATEST", "RESET"]),
    ("MEMORY", &["DOCTOR", "HELP", "MALLOC-STATS", "PURGE", "STATS", "USAGE"]),
    ("MODULE", &["HELP", "LIST", "LOAD", "LOADEX", "UNLOAD"]),
    ("OBJECT", &["ENCODING", "FREQ", "HELP", "IDLETIME", "REFCOUNT"]),
    ("PUBSUB", &["CHANNELS", "HELP", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB"]),
    ("SCRIPT", &["DEBUG", "EXISTS", "FLUSH", "HELP", "KILL", "LOAD"]),
    ("SLOWLOG", &["GET", "HELP", "LEN", "RESET"]),
    ("XGROUP", &["CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "HELP", "SETID"]),
    ("XINFO", &["CONSUMERS", "GROUPS", "HELP", "STREAM"]),
];

/// A request, whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) start: Moment,
    pub(super) end: Moment,
    /// Upper-case, without subcommand.
    pub(super) name: CompactString,
    pub(super) subcommand: Option<&'static str>,
    /// Arguments after the name, the subcommand among them.
    pub(super) arguments: u64,
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
        let hidden = self.arguments - u64::from(self.subcommand.is_some());
        for _ in 0..hidden.min(SHOWN) {
            text.push_str(" ?");
        }
        if hidden > SHOWN {
            text.push_str(" ...");
        }
        text
    }
}

/// Puts requests together from their tokens.
#[derive(Debug, Default)]
pub(super) struct Requests {
    start: Option<Moment>,
    /// The first strings of the command: its name, a subcommand, and what CLIENT REPLY asks for.
    words: Vec<CompactString>,
    strings: u64,
}

impl Requests {
    /// Takes a token that passed from `at` to `end`; gives the request that it finished.
    pub(super) fn token(&mut self, token: &Token, at: Moment, end: Moment) -> Option<Request> {
        let start = *self.start.get_or_insert(at);
        match token.kind {
            Kind::Inline => {
                let line = String::from_utf8_lossy(&token.text);
                let words = line.split_ascii_whitespace();
                self.strings = words.clone().count() as u64;
                self.words = words.take(3).map(CompactString::from).collect();
            }
            Kind::Aggregate => {}
            _ => {
                self.strings += 1;
                if self.words.len() < 3 {
                    self.words.push(CompactString::from_utf8_lossy(&token.text));
                }
            }
        }
        if !token.ends_value {
            return None;
        }
        let words = std::mem::take(&mut self.words);
        let strings = std::mem::take(&mut self.strings);
        self.start = None;
        request(&words, strings, start, end)
    }
}

fn request(words: &[CompactString], strings: u64, start: Moment, end: Moment) -> Option<Request> {
    // An empty array is no command: Redis does not answer it.
    let name = words.first()?;
    // A name is a word; what is none came from nobody that speaks to Redis, and may be a secret.
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let name = if is_word { name.to_ascii_uppercase().to_compact_string() } else { CompactString::from("?") };
    let second = words.get(1).map(CompactString::to_ascii_uppercase);
    let subcommand = CONTAINERS
        .iter()
        .find(|(container, _)| *container == name)
        .and_then(|(_, known)| known.iter().find(|known| second.as_deref() == Some(**known)).copied());
    let choice = match (name.as_str(), subcommand) {
        ("SELECT", _) => words.get(1).cloned(),
        ("CLIENT", Some("REPLY")) => words.get(2).map(|word| word.to_ascii_uppercase().to_compact_string()),
        _ => None,
    };
    Some(Request { start, end, name, subcommand, arguments: strings - 1, choice: choice.unwrap_or_default() })
}
