//! Credentials in paths, recognised by their issuer's prefix or by the word before them.

use crate::route::kind::Kind;

/// Prefixes that issuers give to their credentials, so that leaks can be found. A segment must also be at least [`SHORTEST`]
/// long: `npm_install` is no token.
const PREFIXES: [&[u8]; 26] = [
    b"eyJ", // a JWT, or any base64 of `{"`
    b"sk_live_",
    b"sk_test_",
    b"rk_live_",
    b"rk_test_",
    b"whsec_",
    b"sk-",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"xoxb-",
    b"xoxp-",
    b"xapp-",
    b"AKIA",
    b"ASIA",
    b"AIza",
    b"ya29.",
    b"SG.",
    b"hf_",
    b"npm_",
    b"pypi-",
    b"dop_v1_",
];

/// The shortest credential with a prefix: an AWS access key id.
const SHORTEST: usize = 20;

/// Words before a credential, as in `/reset/<token>`. An id behind one of them counts as a credential. A number does not:
/// `/tokens/7` names a token.
const WORDS: [&str; 32] = [
    "token",
    "tokens",
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "reset",
    "reset-password",
    "reset_password",
    "password-reset",
    "password_reset",
    "activate",
    "activation",
    "invite",
    "invites",
    "invitation",
    "invitations",
    "unsubscribe",
    "magic",
    "magic-link",
    "apikey",
    "api-key",
    "api_key",
    "access_token",
    "access-token",
    "session",
    "sessions",
    "signature",
    "sig",
    "webhook",
    "hook",
];

/// Words before a code that people type in. It may be a number.
const CODE_WORDS: [&str; 6] = ["otp", "pin", "verify", "verification", "confirm", "confirmation"];

pub(super) fn is_known(bytes: &[u8]) -> bool {
    bytes.len() >= SHORTEST && (PREFIXES.iter().any(|prefix| bytes.starts_with(prefix)) || is_bot(bytes))
}

/// Telegram: `bot<id>:<secret>`.
fn is_bot(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"bot") else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b':')
}

/// Splits a segment that is a URL, or the end of one, with a secret, and marks the secret part. The secret is one of:
///
/// - user and password, before the `@`;
/// - a query, behind its escaped mark (`%3F`);
/// - a fragment that names values, behind its escaped mark (`%23`).
pub(super) fn in_url(segment: &str) -> Option<[(&str, bool); 3]> {
    let parts = |at: usize, length: usize| {
        let (before, rest) = segment.split_at(at);
        let (mark, after) = rest.split_at(length);
        (before, mark, after)
    };
    let query = find(segment, "%3F").map(|at| parts(at, 3)).filter(|(_, _, after)| !after.is_empty());
    let fragment = || find(segment, "%23").map(|at| parts(at, 3)).filter(|(_, _, after)| names_values(after));
    if let Some((before, mark, after)) = query.or_else(fragment) {
        return Some([(before, false), (mark, false), (after, true)]);
    }
    let sign = segment.rfind('@').map(|at| (at, 1)).max(segment.rfind("%40").map(|at| (at, 3)));
    let (before, mark, after) = sign.map(|(at, length)| parts(at, length))?;
    let has_password = before.contains(':') || find(before, "%3A").is_some();
    has_password.then_some([(before, true), (mark, false), (after, false)])
}

fn names_values(text: &str) -> bool {
    text.contains('=') || find(text, "%3D").is_some()
}

/// Finds an escape. Its hexadecimal digits may be in either case.
fn find(text: &str, escape: &str) -> Option<usize> {
    text.as_bytes().windows(escape.len()).position(|bytes| bytes.eq_ignore_ascii_case(escape.as_bytes()))
}

/// The kind of `piece`, judged by the word before it as well.
pub(super) fn judged(piece: &str, kind: Kind, previous: &str) -> Kind {
    if kind != Kind::Id || previous.is_empty() {
        return kind;
    }
    let is_among = |words: &[&str], given: &str| words.iter().any(|word| word.eq_ignore_ascii_case(given));
    // `reset-token` is a token, `verify-email` verifies; `token-types` are types.
    let is_joint = |byte: &u8| matches!(byte, b'-' | b'_');
    let words = previous.as_bytes();
    let first = words.iter().position(is_joint).map_or(previous, |joint| &previous[..joint]);
    let last = words.iter().rposition(is_joint).map_or(previous, |joint| &previous[joint + 1..]);
    let announces = || is_among(&WORDS, previous) || is_among(&WORDS, last);
    let announces_code = is_among(&CODE_WORDS, first) || is_among(&CODE_WORDS, last);
    let number = piece.bytes().all(|b| b.is_ascii_digit());
    if announces_code || (!number && announces()) { Kind::Token } else { kind }
}
