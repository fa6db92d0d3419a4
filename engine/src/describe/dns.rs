//! DNS: <https://opentelemetry.io/docs/specs/semconv/registry/attributes/dns/>.
//!
//! The conventions define no span for lookups yet. The name follows their general rule, `{operation} {target}`, with a
//! target of low cardinality: the type of record.

use compact_str::{CompactString, ToCompactString as _};
use onlooker_protocols::facts::{Dns, ResponseCode};
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{DNS_ANSWERS, DNS_QUESTION_NAME};

use super::network;
use super::outcome::Outcome;
use crate::model::span::{Description, Ends};

pub(super) fn describe(facts: &Dns, outcome: &Outcome, ends: &Ends, description: &mut Description) -> Status {
    let Description { name, attributes, .. } = description;
    name.push_str("DNS");
    if !facts.record_type.is_empty() {
        name.extend([" ", &facts.record_type]);
    }
    attributes.set_known(DNS_QUESTION_NAME, &facts.question);
    if !facts.answers.is_empty() {
        let answers: Vec<CompactString> = facts.answers.iter().map(|ip| ip.to_compact_string()).collect();
        attributes.set_texts(DNS_ANSWERS, &answers);
    }
    network::describe(ends, None, attributes);
    outcome.settle(facts.response.and_then(ResponseCode::error), attributes)
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::{End, Facts};

    use super::super::network::tests::tcp;
    use super::*;
    use crate::describe;
    use crate::model::span::Role;

    fn described(facts: Dns) -> Description {
        describe::described(&describe::exchange(Facts::Dns(Box::new(facts)), End::Complete), &tcp(Role::Client))
    }

    #[test]
    fn a_span_has_the_question_and_the_answers() {
        let span = described(Dns {
            question: "shop.example".into(),
            record_type: "A".into(),
            response: Some(ResponseCode(0)),
            answers: vec!["10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap()],
        });
        assert_eq!((&*span.name, span.status), ("DNS A", Status::Unset));
        assert_eq!(span.attributes.said()[..2], ["dns.question.name=shop.example", "dns.answers=[10.0.0.7,10.0.0.8]"]);
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_error() {
        let span = described(Dns { response: Some(ResponseCode(3)), ..Dns::default() });
        assert_eq!((&*span.name, span.status), ("DNS", describe::outcome::error()));
        assert_eq!(span.attributes.text("error.type").as_deref(), Some("NXDOMAIN"));
    }
}
