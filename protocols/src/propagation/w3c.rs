//! `traceparent` and `tracestate` (W3C Trace Context, level 2).
//!
//! The recommendation is strict about malformed values, and so is this module. A `traceparent` that is not well-formed, or
//! that occurs twice, is ignored. A `tracestate` is ignored without a well-formed `traceparent`.

use compact_str::CompactString;

use super::hex::hex;
use super::{Format, Piece, SAMPLED, TraceContext};

/// Indices of the fields in the table's row.
const TRACEPARENT: usize = 0;
const TRACESTATE: usize = 1;

pub(super) const ROW: Format = Format {
    name: "tracecontext",
    headers: &["traceparent", "tracestate"],
    read: |values| TraceContext::from_fields(values.all(TRACEPARENT), values.all(TRACESTATE)),
    lines: &[
        Piece::Text("traceparent: 00-"),
        Piece::Trace { first: 0, count: 4 },
        Piece::Text("-"),
        Piece::Span,
        Piece::Text("-"),
        Piece::Flags,
        Piece::Text("\r\n"),
    ],
};

/// `00-` trace-id `-` parent-id `-` trace-flags: all of version 00, and the beginning of every later version.
const TRACEPARENT_LENGTH: usize = 55;
/// W3C Trace Context 3.3.1.1: no more list-members than this.
const MAX_MEMBERS: usize = 32;
/// W3C Trace Context 3.3.1.5: at least this many bytes are passed on. Beyond them, whole members are dropped.
const MAX_TRACESTATE_LENGTH: usize = 512;
/// W3C Trace Context 3.3.1.5: members longer than this are dropped first.
const LONG_MEMBER_LENGTH: usize = 128;

impl TraceContext {
    /// Parses the values of a request's `traceparent` and `tracestate` fields, in their order.
    ///
    /// Returns `None` unless there is exactly one `traceparent` and it is well-formed.
    ///
    /// ```
    /// use onlooker_protocols::propagation::TraceContext;
    ///
    /// let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let context = TraceContext::from_fields([&parent[..]], [&b"a=1"[..], b"b=2"]).expect("it is well-formed");
    /// assert_eq!((context.flags, &*context.tracestate), (1, "a=1,b=2"));
    /// assert_eq!(TraceContext::from_fields([&parent[..], parent], []), None);
    /// ```
    pub fn from_fields<'a>(
        traceparent: impl IntoIterator<Item = &'a [u8]>,
        tracestate: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut parents = traceparent.into_iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let (trace_id, span_id, flags) = parse_traceparent(parent)?;
        Some(Self { trace_id, span_id, flags, tracestate: combine(tracestate).unwrap_or_default() })
    }
}

fn parse_traceparent(value: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let head = value.first_chunk::<TRACEPARENT_LENGTH>()?;
    let [version] = hex(&head[..2])?;
    let whole = match version {
        0xff => return None,
        0 => value.len() == TRACEPARENT_LENGTH,
        _ => matches!(value.get(TRACEPARENT_LENGTH), None | Some(b'-')),
    };
    if !whole || head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
        return None;
    }
    let trace_id: [u8; 16] = hex(&head[3..35])?;
    let span_id: [u8; 8] = hex(&head[36..52])?;
    let [flags] = hex(&head[53..])?;
    if trace_id == [0; 16] || span_id == [0; 8] {
        return None;
    }
    Some((trace_id, span_id, if version == 0 { flags } else { flags & SAMPLED }))
}

/// Joins the members of all fields. Returns `None` if one member is malformed.
fn combine<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Option<CompactString> {
    let mut members: Vec<&str> = Vec::new();
    for member in fields.into_iter().flat_map(|field| field.split(|&byte| byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue; // 3.3.1.1: empty members are allowed
        }
        if members.len() == MAX_MEMBERS || !is_member(member) {
            return None;
        }
        members.push(std::str::from_utf8(member).ok()?);
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&members) > MAX_TRACESTATE_LENGTH {
        let last_long = members.iter().rposition(|member| member.len() > LONG_MEMBER_LENGTH);
        members.remove(last_long.unwrap_or(members.len() - 1));
    }
    let mut combined = CompactString::with_capacity(length(&members));
    for member in members {
        if !combined.is_empty() {
            combined.push(',');
        }
        combined.push_str(member);
    }
    Some(combined)
}

/// list-member = key "=" value
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return false };
    is_key(&member[..equals]) && is_value(&member[equals + 1..])
}

/// key = ( lcalpha / DIGIT ) 0*255( keychar ), in which keychar may be "@" (level 2, 3.3.1.3.1). All keys of level 1 are such
/// keys.
fn is_key(key: &[u8]) -> bool {
    let of_key = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    (1..=256).contains(&key.len()) && (key[0].is_ascii_lowercase() || key[0].is_ascii_digit()) && key.iter().all(of_key)
}

/// value = 0*255(chr) nblk-chr. Blanks at the end were trimmed with the member.
fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len()) && value.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        TraceContext::from_fields(parents.iter().map(|p| p.as_bytes()), states.iter().map(|s| s.as_bytes()))
    }

    #[rstest]
    #[case::version_00(GOOD, 0x01)]
    #[case::unknown_flags_of_version_00_are_kept("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", 0xff)]
    #[case::not_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", 0x00)]
    #[case::later_version_of_the_same_length("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 0x01)]
    #[case::later_version_with_more("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future", 0x01)]
    #[case::later_version_ending_in_a_dash("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", 0x01)]
    #[case::of_later_flags_only_sampled_is_known("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", 0x01)]
    fn a_good_traceparent_is_taken(#[case] parent: &str, #[case] flags: u8) {
        let context = context(&[parent], &[]).unwrap();
        assert_eq!(context.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
        assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        assert_eq!(context.flags, flags);
        assert_eq!(context.tracestate, "");
    }

    #[rstest]
    #[case::empty("")]
    #[case::version_ff("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::version_00_with_more("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what")]
    #[case::version_00_one_longer("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-")]
    #[case::later_version_with_more_but_no_dash("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what")]
    #[case::later_version_too_short("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0")]
    #[case::uppercase_trace_id("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::uppercase_span_id("00-0af7651916cd43dd8448eb211c80319c-B7ad6b7169203331-01")]
    #[case::uppercase_flags("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A")]
    #[case::uppercase_version("0A-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::zero_trace_id("00-00000000000000000000000000000000-b7ad6b7169203331-01")]
    #[case::zero_span_id("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")]
    #[case::not_hexadecimal("00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    #[case::dot_for_dash("00-0af7651916cd43dd8448eb211c80319c.b7ad6b7169203331-01")]
    #[case::too_long_flags("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001")]
    #[case::too_short_trace_id("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01")]
    #[case::blank_within("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331- 1")]
    fn a_malformed_traceparent_is_none(#[case] parent: &str) {
        assert_eq!(context(&[parent], &["foo=1"]), None);
    }

    #[test]
    fn two_traceparents_are_none_even_if_equal() {
        assert_eq!(context(&[GOOD, GOOD], &[]), None);
        assert_eq!(context(&[], &["foo=1"]), None);
    }

    #[rstest]
    #[case::one(&["foo=1"], "foo=1")]
    #[case::combined_in_order(&["foo=1,bar=2", "baz=3"], "foo=1,bar=2,baz=3")]
    #[case::blanks_around_members(&["foo=1 \t , \t bar=2"], "foo=1,bar=2")]
    #[case::empty_members(&["", "foo=1,,bar=2", ","], "foo=1,bar=2")]
    #[case::tenant(&["0a_*/-@system-1=x"], "0a_*/-@system-1=x")]
    #[case::blank_within_a_value(&["foo=a b"], "foo=a b")]
    #[case::upper_case_key(&["Foo=1"], "")]
    #[case::key_begins_with_a_digit(&["1foo=1"], "1foo=1")]
    #[case::key_begins_with_an_underscore(&["_foo=1"], "")]
    #[case::no_value(&["foo="], "")]
    #[case::no_equals(&["foo"], "")]
    #[case::two_equals(&["foo=1=2"], "")]
    #[case::blank_before_equals(&["foo =1"], "")]
    #[case::issue_7(&["foo@=1,bar=2"], "foo@=1,bar=2")]
    #[case::at_sign_at_the_end(&["foo@=1"], "foo@=1")]
    #[case::two_at_signs(&["foo@bar@baz=1"], "foo@bar@baz=1")]
    #[case::at_sign_first(&["@foo=1"], "")]
    #[case::long_name_behind_an_at_sign(&["t@a12345678901234=1"], "t@a12345678901234=1")]
    #[case::control_in_value(&["foo=a\tb"], "")]
    #[case::one_bad_spoils_all(&["foo=1,bar"], "")]
    fn a_tracestate_is_combined_or_ignored(#[case] states: &[&str], #[case] combined: &str) {
        assert_eq!(context(&[GOOD], states).unwrap().tracestate, combined);
    }

    #[test]
    fn thirty_two_members_are_kept_and_thirty_three_are_not() {
        let members = |count| (0..count).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(context(&[GOOD], &[&members(32)]).unwrap().tracestate, members(32));
        assert_eq!(context(&[GOOD], &[&members(33)]).unwrap().tracestate, "");
    }

    #[test]
    fn of_too_long_a_tracestate_long_members_go_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let medium = |name: &str| format!("{name}={}", "x".repeat(98));
        let (a, b, c, d, e, f) = (medium("a"), medium("b"), medium("c"), medium("d"), medium("e"), medium("f"));
        let all = [&a, &long, &b, &c, &d, &e, &f].map(String::as_str).join(",");
        assert_eq!(context(&[GOOD], &[&all]).unwrap().tracestate, [a, b, c, d, e].join(","));
    }

    #[rstest]
    #[case::key_256("k", 256, true)]
    #[case::key_257("k", 257, false)]
    fn a_key_has_its_limit(#[case] letter: &str, #[case] length: usize, #[case] good: bool) {
        assert_eq!(is_member(format!("{}=1", letter.repeat(length)).as_bytes()), good);
    }

    #[rstest]
    #[case::value_256(256, true)]
    #[case::value_257(257, false)]
    fn a_value_has_its_limit(#[case] length: usize, #[case] good: bool) {
        assert_eq!(is_member(format!("k={}", "v".repeat(length)).as_bytes()), good);
    }
}
