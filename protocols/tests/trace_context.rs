//! Cases from the text of W3C Trace Context, level 2 (<https://www.w3.org/TR/trace-context-2/>). Each has its section.

use onlooker_protocols::propagation::TraceContext;
use rstest::rstest;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID: &str = "00f067aa0ba902b7";

fn read(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
    TraceContext::from_fields(
        parents.iter().map(|parent| parent.as_bytes()),
        states.iter().map(|state| state.as_bytes()),
    )
}

fn good() -> String {
    format!("00-{TRACE_ID}-{SPAN_ID}-01")
}

/// `T` and `S` stand for the ids. `None`: the field is ignored, and a new trace begins.
#[rstest]
#[case::section_3_2_3_example("00-T-S-01", Some(1))]
#[case::section_3_2_2_5_1_not_sampled("00-T-S-00", Some(0))]
#[case::section_3_2_2_5_2_random("00-T-S-03", Some(3))]
#[case::section_3_2_2_5_unknown_flags("00-T-S-ff", Some(0xff))]
#[case::section_3_2_2_1_version_ff("ff-T-S-01", None)]
#[case::section_3_2_2_1_upper_case_version("0A-T-S-01", None)]
#[case::section_3_2_2_1_version_of_one_digit("0-T-S-01", None)]
#[case::section_3_2_2_1_version_of_three_digits("000-T-S-01", None)]
#[case::section_3_2_2_2_version_00_with_more("00-T-S-01-extra", None)]
#[case::section_3_2_2_2_version_00_with_a_dash("00-T-S-01-", None)]
#[case::section_3_2_2_3_zero_trace_id("00-00000000000000000000000000000000-S-01", None)]
#[case::section_3_2_2_3_upper_case_trace_id("00-4BF92F3577B34DA6A3CE929D0E0E4736-S-01", None)]
#[case::section_3_2_2_3_short_trace_id("00-4bf92f3577b34da6a3ce929d0e0e473-S-01", None)]
#[case::section_3_2_2_3_long_trace_id("00-T0-S-01", None)]
#[case::section_3_2_2_4_zero_parent_id("00-T-0000000000000000-01", None)]
#[case::section_3_2_2_4_short_parent_id("00-T-00f067aa0ba902b-01", None)]
#[case::section_3_2_2_4_not_hexadecimal("00-T-00f067aa0ba902bg-01", None)]
#[case::section_3_2_2_5_flags_of_one_digit("00-T-S-1", None)]
#[case::section_3_2_2_5_flags_of_three_digits("00-T-S-001", None)]
#[case::section_3_2_4_later_version("01-T-S-01", Some(1))]
#[case::section_3_2_4_later_version_with_more("01-T-S-01-what", Some(1))]
#[case::section_3_2_4_later_version_without_a_dash("01-T-S-01what", None)]
#[case::section_3_2_4_only_the_sampled_flag_of_later_versions("01-T-S-09", Some(1))]
#[case::section_3_2_4_later_version_too_short("01-T-S-0", None)]
#[case::empty("", None)]
fn a_traceparent_is_read_as_the_specification_says(#[case] parent: &str, #[case] flags: Option<u8>) {
    let context = read(&[&parent.replace('T', TRACE_ID).replace('S', SPAN_ID)], &["a=1"]);
    assert_eq!(context.as_ref().map(|context| context.flags), flags);
    if let Some(context) = context {
        assert_eq!((hex::encode(context.trace_id), hex::encode(context.span_id)), (TRACE_ID.into(), SPAN_ID.into()));
        assert_eq!(context.tracestate, "a=1");
    }
}

/// `None`: the whole list is ignored, and the `traceparent` is valid all the same (section 4.3).
#[rstest]
#[case::section_3_3_example(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"))]
#[case::section_3_3_1_1_several_fields(&["a=1,b=2", "c=3"], Some("a=1,b=2,c=3"))]
#[case::section_3_3_1_1_empty_members(&["a=1,,b=2", "", ","], Some("a=1,b=2"))]
#[case::section_3_3_1_2_white_space(&["a=1 \t,\t b=2"], Some("a=1,b=2"))]
#[case::section_3_3_1_3_no_value(&["a="], None)]
#[case::section_3_3_1_3_no_key(&["=1"], None)]
#[case::section_3_3_1_3_no_equals_sign(&["a"], None)]
#[case::section_3_3_1_3_one_bad_member(&["a=1,b"], None)]
#[case::section_3_3_1_3_1_at_sign_last(&["foo@=1"], Some("foo@=1"))]
#[case::section_3_3_1_3_1_at_signs(&["foo@bar@baz=1"], Some("foo@bar@baz=1"))]
#[case::section_3_3_1_3_1_tenant(&["fw529a3039@dt=1"], Some("fw529a3039@dt=1"))]
#[case::section_3_3_1_3_1_digit_first(&["1a=1"], Some("1a=1"))]
#[case::section_3_3_1_3_1_all_characters(&["a0_-*/@=1"], Some("a0_-*/@=1"))]
#[case::section_3_3_1_3_1_at_sign_first(&["@a=1"], None)]
#[case::section_3_3_1_3_1_star_first(&["*a=1"], None)]
#[case::section_3_3_1_3_1_upper_case(&["fOo=1"], None)]
#[case::section_3_3_1_3_1_dot(&["foo.bar=1"], None)]
#[case::section_3_3_1_3_1_blank(&["foo =1"], None)]
#[case::section_3_3_1_3_2_blank_within(&["a=b c"], Some("a=b c"))]
#[case::section_3_3_1_3_2_equals_sign(&["a=b=c"], None)]
#[case::section_3_3_1_3_2_control_character(&["a=b\tc"], None)]
#[case::section_3_3_1_3_2_beyond_ascii(&["a=\u{e9}"], None)]
fn a_tracestate_is_read_as_the_specification_says(#[case] states: &[&str], #[case] expected: Option<&str>) {
    let context = read(&[&good()], states).expect("the traceparent is valid");
    assert_eq!(context.tracestate, expected.unwrap_or_default());
}

#[test]
fn lengths_and_counts_have_the_limits_of_sections_3_3_1_1_and_3_3_1_3() {
    let state = |state: &str| read(&[&good()], &[state]).expect("the traceparent is valid").tracestate;
    for (length, is_good) in [(1, true), (256, true), (257, false)] {
        assert_eq!(!state(&format!("{}=1", "k".repeat(length))).is_empty(), is_good, "a key of {length}");
        assert_eq!(!state(&format!("k={}", "v".repeat(length))).is_empty(), is_good, "a value of {length}");
    }
    let members = |count: usize| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
    assert_eq!((state(&members(32)), &*state(&members(33))), (members(32).into(), ""));
}
