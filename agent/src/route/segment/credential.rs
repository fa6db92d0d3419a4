//! Credentials that are put into paths, told by their issuer's mark or by the word before them.

use super::Kind;

/// What issuers let their credentials begin with, so that they can be found where they don't belong. A segment must
/// also be [`SHORTEST`] long: `npm_install` is no token.
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

/// Words a credential follows: `/reset/<token>`. An id behind one of these is taken for the credential; a number is
/// not (`/tokens/7` names a token).
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

/// Words that are followed by a code people type in, which may be a number.
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

/// The kind of `piece` once the word before it is known.
pub(super) fn judged(piece: &str, kind: Kind, previous: &str) -> Kind {
    if kind != Kind::Id || previous.is_empty() {
        return kind;
    }
    let follows = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(previous));
    let number = piece.bytes().all(|b| b.is_ascii_digit());
    if follows(&CODE_WORDS) || (!number && follows(&WORDS)) { Kind::Token } else { kind }
}
