//! What holds for every parser of the table, shown on the recorded conversations of its protocol.
//!
//! Playing a conversation checks the balance: a request that was begun is reported exactly once. What each protocol may
//! lose, and which facts survive, is in the protocol's own tests.

mod chance;
mod kit;

use kit::Talk;
use onlooker_protocols::registry;
use proptest::prelude::*;

/// Bytes that are captured of an operation's beginning and end, as by the kernel programs.
const CAPTURES: [(usize, usize); 3] = [(256, 16), (64, 16), (16, 0)];

/// Calls `check` with every recorded conversation of every protocol.
fn each(check: impl Fn(&str, onlooker_protocols::NewParser, Talk)) {
    for (protocol, new_parser) in registry::parsed() {
        let names = Talk::all_recorded(protocol.name);
        assert!(!names.is_empty(), "{} has no recorded conversation", protocol.name);
        for name in names {
            check(&format!("{} {name}", protocol.name), new_parser, Talk::recorded(protocol.name, &name));
        }
    }
}

#[test]
fn byte_by_byte_is_the_same_as_whole() {
    each(|what, new_parser, talk| {
        let whole = talk.play(new_parser(true));
        assert_eq!(talk.byte_at_a_time().play(new_parser(true)), whole, "{what}");
        assert!(whole.unparsable.is_none() && !whole.exchanges().is_empty(), "{what}");
    });
}

#[test]
fn the_balance_holds_with_a_hole_anywhere() {
    each(|what, new_parser, talk| {
        for (hole, talk) in talk.gap_everywhere(&[9]) {
            let outcome = talk.play(new_parser(true));
            assert_eq!(outcome.begun(), outcome.exchanges().len() + outcome.lost().len(), "{what}, {hole}");
        }
    });
}

#[test]
fn the_balance_holds_with_adjacent_lost_records() {
    each(|what, new_parser, talk| {
        for count in 1..=3 {
            for (lost, talk) in talk.losses_everywhere(count) {
                let outcome = talk.play(new_parser(true));
                assert_eq!(outcome.begun(), outcome.exchanges().len() + outcome.lost().len(), "{what}, {lost}");
            }
        }
    });
}

#[test]
fn the_balance_holds_with_truncated_captures_and_a_late_start() {
    each(|what, new_parser, talk| {
        for (beginning, end) in CAPTURES {
            for from_start in [true, false] {
                let outcome = talk.captured(beginning, end).play(new_parser(from_start));
                assert_eq!(outcome.begun(), outcome.exchanges().len() + outcome.lost().len(), "{what}");
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..chance::config(chance::regressions!("every_protocol")) })]

    #[test]
    fn any_cutting_gives_the_same(offsets in prop::collection::vec(0..20_000_usize, 0..40)) {
        for (protocol, new_parser) in registry::parsed() {
            for name in Talk::all_recorded(protocol.name) {
                let talk = Talk::recorded(protocol.name, &name);
                prop_assert_eq!(talk.cut(&offsets).play(new_parser(true)), talk.play(new_parser(true)), "{}", name);
            }
        }
    }
}
