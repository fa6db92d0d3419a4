//! Makes the template of a path, and removes credentials from the path.

use super::kind::Kind;
use super::segment;
use onlooker_protocols::redact::REDACTED;

/// Segments of a template. Deeper ones become `{path}`. Routes of real programs have fewer.
const MAX_SEGMENTS: usize = 10;
/// Bytes of a template's segment. A longer one becomes `{name}`.
const MAX_SEGMENT: usize = 64;

/// Whether a path holds a credential, which [`redact`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    NoSecret,
    Secret,
}

/// A piece of a path.
enum Piece<'p> {
    /// A segment begins.
    Slash,
    /// A part of a segment, with its kind.
    Text(&'p str, Kind),
    /// All parameters behind a segment, as `;name=value` (RFC 3986 3.3). The parser has removed their values.
    Parameters(&'p str),
}

/// Appends the template of `path` to `template`: a name of low cardinality. A path that does not begin with a slash names no
/// resource and has no template: the asterisk of `OPTIONS *`, the empty path of CONNECT.
pub fn template(path: &str, template: &mut String) -> Holds {
    let mut holds = Holds::NoSecret;
    // A path without a template may hold credentials too.
    let most = if path.starts_with('/') { MAX_SEGMENTS } else { 0 };
    let mut segments = 0;
    let mut begin = template.len();
    walk(path, |piece| match piece {
        Piece::Slash => {
            end_segment(template, begin);
            segments += 1;
            if segments <= most {
                template.push('/');
            } else if segments == most + 1 && most > 0 {
                template.push_str("/{path}");
            }
            begin = template.len();
        }
        Piece::Text(text, kind) => {
            if kind == Kind::Token {
                holds = Holds::Secret;
            }
            if (1..=most).contains(&segments) {
                template.push_str(kind.placeholder().unwrap_or(text));
            }
        }
        Piece::Parameters(_) => {}
    });
    end_segment(template, begin);
    holds
}

fn end_segment(template: &mut String, begin: usize) {
    if template.len() - begin > MAX_SEGMENT {
        template.truncate(begin);
        template.push_str("{name}");
    }
}

/// The path with `REDACTED` in place of everything that looks like a credential. Ids stay.
#[must_use]
pub fn redact(path: &str) -> String {
    let mut redacted = String::with_capacity(path.len());
    walk(path, |piece| match piece {
        Piece::Slash => redacted.push('/'),
        Piece::Text(_, Kind::Token) => redacted.push_str(REDACTED),
        Piece::Text(text, _) | Piece::Parameters(text) => redacted.push_str(text),
    });
    redacted
}

/// Splits a path. Joined together, the pieces are the path.
fn walk<'p>(path: &'p str, mut take: impl FnMut(Piece<'p>)) {
    let (mut before, mut previous) = ("", "");
    let mut left = path;
    loop {
        let end = left.bytes().position(|byte| byte == b'/');
        let (whole, next) = left.split_at(end.unwrap_or(left.len()));
        // Most segments are plain words and need no other scan.
        let plain = whole.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-' | b'_'));
        let at = if plain { None } else { whole.bytes().position(|byte| byte == b';') };
        let (mut segment, parameters) = whole.split_at(at.unwrap_or(whole.len()));
        // `https://user@host`: the user may be a token, without a password.
        if !plain
            && (previous.ends_with(':') || (previous.is_empty() && before.ends_with(':')))
            && let Some(sign) = segment.rfind('@').filter(|&sign| sign > 0)
        {
            take(Piece::Text(&segment[..sign], Kind::Token));
            take(Piece::Text(&segment[sign..=sign], Kind::Word));
            segment = &segment[sign + 1..];
        }
        if plain && segment.len() <= segment::PLAIN_WORD {
            take(Piece::Text(segment, Kind::Word));
        } else {
            segment::pieces(segment, previous, |text, kind| take(Piece::Text(text, kind)));
        }
        if !parameters.is_empty() {
            take(Piece::Parameters(parameters));
        }
        (before, previous) = (previous, segment);
        let Some(next) = next.get(1..) else { return };
        take(Piece::Slash);
        left = next;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(path: &str) -> String {
        let mut out = String::new();
        template(path, &mut out);
        out
    }

    #[rstest]
    // Routes of real programs stay as they are.
    #[case::root("/", "/")]
    #[case::words("/api/users", "/api/users")]
    #[case::kebab("/reset-password/sign_in", "/reset-password/sign_in")]
    #[case::trailing_slash("/users/", "/users/")]
    #[case::double_slash("//users//7", "//users//{id}")]
    #[case::dot_segments("/a/../b/.", "/a/../b/.")]
    #[case::versions("/v1/v2beta1/v1.2/users", "/v1/v2beta1/v1.2/users")]
    #[case::locales("/en-US/pt_BR/zh-Hans-CN/help", "/en-US/pt_BR/zh-Hans-CN/help")]
    #[case::words_with_digits("/oauth2/s3/ipv4/sha256/k8s/i18n/2fa", "/oauth2/s3/ipv4/sha256/k8s/i18n/2fa")]
    #[case::camel_case("/getUserAccountDetailsByCustomerId", "/getUserAccountDetailsByCustomerId")]
    #[case::camel_case_with_version("/getV2Users", "/getV2Users")]
    #[case::hex_word("/facade/deadbeef", "/facade/deadbeef")]
    #[case::region("/us-east-1/level-3", "/us-east-1/level-3")]
    #[case::dot_file("/.well-known/openid-configuration", "/.well-known/openid-configuration")]
    #[case::file("/robots.txt", "/robots.txt")]
    #[case::library_version("/jquery-3.6.0.min.js", "/jquery-3.6.0.min.js")]
    // Values become placeholders.
    #[case::number("/users/7", "/users/{id}")]
    #[case::number_inside("/users/7/orders/12", "/users/{id}/orders/{id}")]
    #[case::uuid("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{id}")]
    #[case::uuid_upper("/u/550E8400-E29B-41D4-A716-446655440000", "/u/{id}")]
    #[case::uuid_simple("/u/550e8400e29b41d4a716446655440000", "/u/{id}")]
    #[case::ulid("/u/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/u/{id}")]
    #[case::object_id("/u/507f1f77bcf86cd799439011", "/u/{id}")]
    #[case::short_hex("/commit/3f2a9c", "/commit/{id}")]
    #[case::git_hash("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commit/{id}")]
    #[case::ethereum("/tx/0x52908400098527886E0F7030069857D2E4169EE7", "/tx/{id}")]
    #[case::youtube("/watch/dQw4w9WgXcQ", "/watch/{id}")]
    #[case::order_number("/orders/ORD-12345", "/orders/{id}")]
    #[case::word_and_number("/orders/order_99123", "/orders/{id}")]
    #[case::pod("/pods/checkout-7d4b9c6f5-x2v9q", "/pods/{id}")]
    #[case::cuid("/p/cjld2cjxh0000qzrmn831i7rn", "/p/{id}")]
    #[case::list("/items/1,2,3", "/items/{id}")]
    #[case::date("/reports/2024-05-17", "/reports/{date}")]
    #[case::month("/reports/2024-05", "/reports/{date}")]
    #[case::timestamp("/at/2024-05-17T12:30:00Z", "/at/{date}")]
    #[case::email("/users/bob@example.com", "/users/{email}")]
    #[case::email_escaped("/users/bob%40example.com/orders", "/users/{email}/orders")]
    #[case::handle("/@alice/posts", "/{name}/posts")]
    #[case::escaped_text("/search/foo%20bar", "/search/{name}")]
    #[case::utf8("/tags/größe", "/tags/{name}")]
    #[case::slug("/blog/the-quick-brown-fox-jumps-over", "/blog/{name}")]
    #[case::slug_with_id("/blog/my-post-12345", "/blog/{id}")]
    #[case::address("/hosts/10.0.0.1", "/hosts/{id}")]
    #[case::mac("/hosts/00:1a:2b:3c:4d:5e", "/hosts/{id}")]
    // Parts of segments.
    #[case::asset_hash("/static/app.3f2a9c.js", "/static/app.{hash}.js")]
    #[case::chunk("/static/main.8f3c1b2a.chunk.css", "/static/main.{hash}.chunk.css")]
    #[case::dashed_hash("/assets/index-BHk3x2Qd.js", "/assets/{id}.js")]
    #[case::image("/img/12345.png", "/img/{id}.png")]
    #[case::custom_verb("/v1/jobs/17:cancel", "/v1/jobs/{id}:cancel")]
    #[case::digest("/blobs/sha256:9fceb02d0ae598e95dc970b74767f193", "/blobs/sha256:{id}")]
    #[case::odata("/Products(5)", "/{id}")]
    #[case::partition("/dt=2024-05-17/part", "/dt={date}/part")]
    #[case::parameters("/app;jsessionid=REDACTED/x", "/app/x")]
    // No resource, no template.
    #[case::asterisk("*", "")]
    #[case::connect("", "")]
    #[case::many_parts("/a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e.f.g.h/x", "/{name}/x")]
    #[case::many_marks("/a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,a,b,c,d,e,f,g,h/x", "/{name}/x")]
    #[case::long_with_digits("/a-word-with-2-a-word-with-2-a-word-with-2/x", "/{name}/x")]
    // Hostile depth.
    #[case::deep("/a/b/c/d/e/f/g/h/i/j/k/l/m", "/a/b/c/d/e/f/g/h/i/j/{path}")]
    fn a_template_keeps_words_and_replaces_values(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(of(path), expected);
    }

    #[rstest]
    #[case::jwt(
        "/login/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "/login/REDACTED"
    )]
    #[case::telegram("/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage", "/REDACTED/sendMessage")]
    #[case::slack("/services/T00000000/B00000000/XXxxXXxxXX12xxXXxxXXxx34", "/services/T00000000/B00000000/REDACTED")]
    #[case::github("/x/ghp_16C7e42F292c6912E7710c838347Ae178B4a", "/x/REDACTED")]
    #[case::stripe("/x/sk_live_4eC39HqLyjWDarjtT1zdp7dc", "/x/REDACTED")]
    #[case::base64url("/v/V1StGXR8_Z5jdHi6B-myT", "/v/REDACTED")]
    #[case::base64_escaped("/v/q83vEjRWeJq83vEjRWeJ%2Bg%3D%3D/w", "/v/REDACTED/w")]
    #[case::random_letters("/v/QwXzWgXcQbYfRtKpLmNvBnHj", "/v/REDACTED")]
    #[case::lower_case("/v/k7f3x9q2m4z8w1v6t5r0p3n7b2h9j4g6d8", "/v/REDACTED")]
    #[case::hex_after_reset("/reset/9fceb02d0ae598e95dc970b74767f19372d61af8", "/reset/REDACTED")]
    #[case::uuid_after_invite("/Invite/550e8400-e29b-41d4-a716-446655440000/ok", "/Invite/REDACTED/ok")]
    #[case::short_after_token("/token/a1b2c3d4", "/token/REDACTED")]
    #[case::one_time_code("/otp/123456", "/otp/REDACTED")]
    #[case::key_value("/api_key=9fceb02d0ae598e95dc970b7/x", "/api_key=REDACTED/x")]
    #[case::before_parameters("/reset/a1b2c3d4;v=REDACTED/x", "/reset/REDACTED;v=REDACTED/x")]
    #[case::password_in_a_url("/proxy/https://bob:hunter2@example.com/x", "/proxy/https://REDACTED@example.com/x")]
    #[case::password_in_an_escaped_url(
        "/proxy/https%3A%2F%2Fbob%3Ahunter2%40example.com%2Fx",
        "/proxy/REDACTED%40example.com%2Fx"
    )]
    #[case::user_alone_in_a_url(
        "/proxy/https://9fceb02d0ae598e95dc970b74767f193@example.com/x",
        "/proxy/https://REDACTED@example.com/x"
    )]
    #[case::user_behind_merged_slashes("/proxy/https:/bob@example.com/x", "/proxy/https:/REDACTED@example.com/x")]
    #[case::behind_an_escaped_blank("/x/Bearer%20ghp_16C7e42F292c6912E7710c838347Ae178B4a", "/x/REDACTED")]
    #[case::jwt_behind_an_escaped_mark("/x/a%3DeyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgN,b", "/x/REDACTED")]
    #[case::hex_after_a_joined_word("/auth/reset-token/9fceb02d0ae598e95dc970b74767f193", "/auth/reset-token/REDACTED")]
    #[case::code_after_a_joined_word("/auth/verify_email/123456", "/auth/verify_email/REDACTED")]
    #[case::password_with_an_at("/x/bob:p@ss@10.0.0.1", "/x/REDACTED@10.0.0.1")]
    #[case::escaped_query("/cb%3Faccess_token%3Dabc", "/cb%3FREDACTED")]
    #[case::escaped_query_in_small_letters("/cb%3fstate=1/next", "/cb%3fREDACTED/next")]
    #[case::escaped_query_of_a_url(
        "/go/https%3A%2F%2Fa.example%2Fp%3Ft%3D1",
        "/go/https%3A%2F%2Fa.example%2Fp%3FREDACTED"
    )]
    #[case::escaped_fragment("/cb%23access_token=abc", "/cb%23REDACTED")]
    #[case::in_a_list("/x/a=1,b=ghp_16C7e42F292c6912E7710c838347Ae178B4a", "/x/REDACTED")]
    #[case::in_a_file("/x/copy.ghp_16C7e42F292c6912E7710c838347Ae178B4a.txt", "/x/copy.REDACTED.txt")]
    #[case::no_path("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "REDACTED")]
    #[case::beyond_the_template(
        "/a/b/c/d/e/f/g/h/i/j/k/ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "/a/b/c/d/e/f/g/h/i/j/k/REDACTED"
    )]
    fn a_credential_leaves_neither_in_the_path_nor_in_the_template(#[case] path: &str, #[case] expected: &str) {
        let mut name = String::new();
        assert_eq!(template(path, &mut name), Holds::Secret, "{name}");
        assert_eq!(redact(path), expected);
        for (before, after) in path.split('/').zip(expected.split('/')) {
            assert!(before == after || !name.contains(before), "{before} in {name}");
        }
    }

    #[rstest]
    #[case::number("/users/7")]
    #[case::uuid("/users/550e8400-e29b-41d4-a716-446655440000")]
    #[case::ulid("/users/01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    #[case::git_hash("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8")]
    #[case::short_id("/watch/dQw4w9WgXcQ")]
    #[case::numbered_token("/tokens/7")]
    #[case::word_after_token("/token/refresh")]
    #[case::title("/wiki/My-Cool-Article-About-Rust-2024")]
    #[case::escaped_title("/wiki/Caf%C3%A9-M%C3%BCnchen-S%C3%BCd-Bahnhof")]
    #[case::camel_case("/getUserAccountDetailsByCustomerIdAndRegion")]
    #[case::capitals("/CHANGELOG-RELEASE-NOTES.md")]
    #[case::capitals_and_words("/docs/README-INSTALL-Windows")]
    #[case::pod("/pods/checkout-service-7d4b9c6f5-x2v9q")]
    #[case::email("/users/bob@example.com")]
    #[case::escaped_mark("/tags/c%23/posts")]
    #[case::email_behind_two_slashes("//bob@example.com")]
    #[case::behind_a_word_joined_to_another("/token-types/9fceb02d0ae598e95dc970b74767f193")]
    #[case::escaped_question("/wiki/What%3F")]
    fn an_id_is_no_secret(#[case] path: &str) {
        assert_eq!(template(path, &mut String::new()), Holds::NoSecret);
        assert_eq!(redact(path), path);
    }

    #[test]
    fn the_pieces_of_any_path_are_the_path_and_its_template_is_short() {
        const PARTS: [&str; 28] = [
            "/",
            "/",
            "/",
            ";",
            ":",
            "=",
            ".",
            "..",
            "%",
            "%4",
            "%zz",
            "%40",
            "@",
            ",",
            "-",
            "_",
            "a",
            "Users",
            "v1",
            "7",
            "2024-05-17",
            "3f2a9c",
            "größe",
            "…",
            "eyJhbGciOiJIUzI1NiJ9",
            "reset",
            "0x1f",
            "+",
        ];
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..20_000 {
            let mut path = String::new();
            for _ in 0..state % 17 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                path.push_str(PARTS[(state % PARTS.len() as u64) as usize]);
            }
            state = state.wrapping_add(1);
            let mut again = String::new();
            walk(&path, |piece| match piece {
                Piece::Slash => again.push('/'),
                Piece::Text(text, _) | Piece::Parameters(text) => again.push_str(text),
            });
            assert_eq!(again, path);
            let mut name = String::new();
            let holds = template(&path, &mut name);
            assert!(name.len() <= MAX_SEGMENTS * (MAX_SEGMENT + 1) + "/{path}".len(), "{name}");
            assert_eq!(holds == Holds::NoSecret, redact(&path) == path, "{path}");
        }
    }
}
