//! Messaging: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>.

use onlooker_protocols::facts::Messaging;
use opentelemetry::trace::Status;
use opentelemetry_semantic_conventions::attribute::{
    MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_CLIENT_ID, MESSAGING_CONSUMER_GROUP_NAME, MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID, MESSAGING_DESTINATION_TEMPORARY, MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
};

use super::network;
use super::outcome::Outcome;
use crate::model::span::{Description, Ends};

pub(super) fn describe(facts: &Messaging, outcome: &Outcome, ends: &Ends, description: &mut Description) -> Status {
    let Description { name, attributes, .. } = description;
    name.push_str(facts.operation_name);
    // The name of a temporary destination is of high cardinality.
    let target = if facts.is_temporary { "(temporary)" } else { &facts.destination };
    if !target.is_empty() {
        name.extend([" ", target]);
    }
    attributes.set(MESSAGING_SYSTEM, facts.system);
    attributes.set(MESSAGING_OPERATION_NAME, facts.operation_name);
    attributes.set(MESSAGING_OPERATION_TYPE, facts.operation.as_str());
    attributes.set_known(MESSAGING_DESTINATION_NAME, &facts.destination);
    if facts.is_temporary {
        attributes.set_flag(MESSAGING_DESTINATION_TEMPORARY, true);
    }
    attributes.set_known(MESSAGING_DESTINATION_PARTITION_ID, &facts.partition);
    attributes.set_known(MESSAGING_CONSUMER_GROUP_NAME, &facts.consumer_group);
    attributes.set_known(MESSAGING_CLIENT_ID, &facts.client_id);
    attributes.set_known(MESSAGING_MESSAGE_ID, &facts.message_id);
    if let Some(count) = facts.batch_size {
        attributes.set_count(MESSAGING_BATCH_MESSAGE_COUNT, count.into());
    }
    if let Some(size) = facts.body_size {
        attributes.set_count(MESSAGING_MESSAGE_BODY_SIZE, size);
    }
    network::describe(ends, None, attributes);
    let error = (!facts.error.is_empty()).then_some(&*facts.error);
    outcome.settle(error, attributes)
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::facts::Operation;
    use onlooker_protocols::{End, Facts};

    use super::super::network::tests::tcp;
    use super::*;
    use crate::describe;
    use crate::model::span::Role;

    fn described(facts: Messaging) -> Description {
        let exchange = describe::exchange(Facts::Messaging(Box::new(facts)), End::Complete);
        describe::described(&exchange, &tcp(Role::Client))
    }

    #[test]
    fn a_span_has_the_attributes_of_the_conventions() {
        let span = described(Messaging {
            system: "kafka",
            operation: Operation::Receive,
            operation_name: "fetch",
            destination: "orders".into(),
            partition: "3".into(),
            consumer_group: "billing".into(),
            client_id: "billing-1".into(),
            batch_size: Some(20),
            ..Messaging::default()
        });
        assert_eq!((&*span.name, span.status), ("fetch orders", Status::Unset));
        let said = span.attributes.said();
        assert_eq!(
            said[..8],
            [
                "messaging.system=kafka",
                "messaging.operation.name=fetch",
                "messaging.operation.type=receive",
                "messaging.destination.name=orders",
                "messaging.destination.partition.id=3",
                "messaging.consumer.group.name=billing",
                "messaging.client.id=billing-1",
                "messaging.batch.message_count=20",
            ]
        );
        assert!(said.contains(&"server.address=10.0.0.2".to_owned()));
    }

    #[test]
    fn a_temporary_destination_is_not_part_of_the_name() {
        let span = described(Messaging {
            operation_name: "basic.publish",
            destination: "amq.gen-4f1c".into(),
            is_temporary: true,
            message_id: "17".into(),
            body_size: Some(512),
            ..Messaging::default()
        });
        assert_eq!(span.name, "basic.publish (temporary)");
        let said = span.attributes.said();
        for expected in [
            "messaging.destination.name=amq.gen-4f1c",
            "messaging.destination.temporary=true",
            "messaging.message.id=17",
            "messaging.message.body.size=512",
        ] {
            assert!(said.contains(&expected.to_owned()), "{expected} is missing: {said:?}");
        }
    }

    #[test]
    fn an_error_of_the_broker_is_the_spans_error() {
        let span =
            described(Messaging { operation_name: "produce", error: "NOT_LEADER".into(), ..Messaging::default() });
        assert_eq!((&*span.name, span.status), ("produce", describe::outcome::error()));
        assert_eq!(span.attributes.text("error.type").as_deref(), Some("NOT_LEADER"));
    }
}
