//! What Kafka's errors mean: whether waiting can help, and what to do.

use ftap_supervision::{Entry, Failure, FailureKind, Retry};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Kinds of failure of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaFailure {
    /// A broker does not answer, or answers with an error that passes.
    Unavailable,
    /// As many tries as `KAFKA_MAX_RETRIES` allows have failed.
    RetriesExhausted,
    /// The broker does not let us in: a login, a certificate, a listener that speaks something else.
    Refused,
    /// librdkafka does not take a property.
    Property,
    /// No topic can have this name.
    TopicName,
    /// The broker does not create this topic: a policy, a setting, too many partitions.
    TopicCreation,
    /// The broker is too old for what is asked.
    Unsupported,
    /// A broker's advertised address can't be resolved.
    Unresolved,
    /// An ACL for this topic is missing.
    TopicForbidden,
    /// An ACL for this consumer group is missing.
    GroupForbidden,
    /// An ACL for this transactional id is missing.
    TransactionsForbidden,
    /// An ACL for the cluster is missing.
    ClusterForbidden,
    /// The group has a member of another kind.
    OtherMember,
    /// Another member of the group has our `group.instance.id`.
    InstanceTaken,
    /// The broker does not let transactions stay open for so long.
    TransactionTimeout,
    /// The topic does not take a message, or a batch of messages, of this size.
    TooLarge,
    /// The dead-letter topic takes not even a record's headers.
    LetterTooLarge,
    /// Another publisher with our transactional id took over.
    Fenced,
    /// Another producer's transaction hides records for longer than they are waited for.
    OpenTransaction,
    /// What the broker has at an offset is not a record batch, or is a damaged one.
    Unreadable,
}

impl FailureKind for KafkaFailure {
    fn entry(self) -> Entry {
        let entry = |name, retry, remedy| Entry {
            name,
            domain: "kafka",
            retry,
            remedy,
        };
        const CHECK_BROKER: &str =
            "check KAFKA_BROKER and that the broker runs; KAFKA_MAX_RETRIES=0 waits indefinitely";
        match self {
            Self::Unavailable => entry("kafka_unavailable", Retry::Transient, CHECK_BROKER),
            Self::RetriesExhausted => {
                entry("kafka_retries_exhausted", Retry::Permanent, CHECK_BROKER)
            }
            Self::Refused => entry(
                "kafka_refused",
                Retry::Permanent,
                "change what the error names: the setting here, or the user, the listener or the certificate on the broker",
            ),
            Self::Property => entry(
                "kafka_property_refused",
                Retry::Permanent,
                "correct the property that the error names, in KAFKA_EXTRA or in the KAFKA_ setting that it comes from, or remove it",
            ),
            Self::TopicName => entry(
                "kafka_topic_name_refused",
                Retry::Permanent,
                "set KAFKA_TOPIC, or KAFKA_DEAD_LETTER_TOPIC if the error names that one, to another name; it must differ from every other topic's in more than `.` and `_`; DEAD_LETTERS=lake needs no dead-letter topic",
            ),
            Self::TopicCreation => entry(
                "kafka_topic_creation_refused",
                Retry::Permanent,
                "have the topic that the error names created as the broker allows it, set KAFKA_TOPIC or KAFKA_DEAD_LETTER_TOPIC to one that exists, or change KAFKA_PARTITIONS if it is about their number; DEAD_LETTERS=lake needs no dead-letter topic",
            ),
            Self::Unsupported => entry(
                "kafka_feature_unsupported",
                Retry::Permanent,
                "use a newer broker: the one at KAFKA_BROKER does not have what the error names",
            ),
            Self::Unresolved => entry(
                "kafka_address_unknown",
                Retry::Transient,
                "correct the broker's advertised.listeners, or make the name known by DNS or /etc/hosts",
            ),
            Self::TopicForbidden => entry(
                "kafka_topic_forbidden",
                Retry::Permanent,
                "allow the user Describe and Read on the topic to read it, Describe and Write to publish, Create to create it; DEAD_LETTERS=lake needs no rights on the dead-letter topic; README lists the rights of each command",
            ),
            Self::GroupForbidden => entry(
                "kafka_group_forbidden",
                Retry::Permanent,
                "allow the user Read on the consumer group that the error names; README lists the rights of each command",
            ),
            Self::TransactionsForbidden => entry(
                "kafka_transactional_id_forbidden",
                Retry::Permanent,
                "allow the user Write on the transactional id that the error names; README lists the rights of each command",
            ),
            Self::ClusterForbidden => entry(
                "kafka_cluster_forbidden",
                Retry::Permanent,
                "allow the user Create on the topic or the cluster, or create the topic beforehand; a broker older than 3.0 also needs IdempotentWrite on the cluster",
            ),
            Self::OtherMember => entry(
                "kafka_group_has_other_members",
                Retry::Permanent,
                "end the group's members that are not ftap, or set KAFKA_CONSUMER_GROUP to a name of its own",
            ),
            Self::InstanceTaken => entry(
                "kafka_instance_id_taken",
                Retry::Permanent,
                "give each process a group.instance.id of its own in KAFKA_EXTRA, or none",
            ),
            Self::TransactionTimeout => entry(
                "kafka_transaction_timeout_refused",
                Retry::Permanent,
                "set KAFKA_EXTRA=transaction.timeout.ms=N to at most the broker's transaction.max.timeout.ms, or raise that",
            ),
            Self::TooLarge => entry(
                "kafka_message_too_large",
                Retry::Permanent,
                "raise the topic's max.message.bytes above the size of the row; if it is above, allow DescribeConfigs on the topic or set KAFKA_EXTRA=batch.size=N below it",
            ),
            Self::LetterTooLarge => entry(
                "kafka_dead_letter_too_large",
                Retry::Permanent,
                "set DEAD_LETTERS=lake, which keeps records whole and needs no dead-letter topic, or raise that topic's max.message.bytes above the size of the record",
            ),
            Self::Fenced => entry(
                "publisher_fenced",
                Retry::Transient,
                "let one publisher feed the topic, or give each its own KAFKA_TRANSACTIONAL_ID and topic",
            ),
            Self::OpenTransaction => entry("open_transaction", Retry::Permanent, END_TRANSACTION),
            Self::Unreadable => entry("unreadable_record", Retry::Permanent, SKIP_UNREADABLE),
        }
    }
}

/// What to do about records that an open transaction hides.
pub const END_TRANSACTION: &str = "let the producer end its transaction; that of one that is gone is ended by Kafka's `kafka-transactions.sh abort --topic TOPIC --partition P --start-offset N`; then the records follow";
/// What to do about something in the log that can't be read.
pub const SKIP_UNREADABLE: &str = "repair it on the broker, or skip it: commit an offset after it for KAFKA_CONSUMER_GROUP (`kafka-consumer-groups.sh --reset-offsets`) and start again";

impl From<RDKafkaErrorCode> for KafkaFailure {
    fn from(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Code::TopicAuthorizationFailed => Self::TopicForbidden,
            Code::GroupAuthorizationFailed => Self::GroupForbidden,
            Code::TransactionalIdAuthorizationFailed => Self::TransactionsForbidden,
            Code::ClusterAuthorizationFailed => Self::ClusterForbidden,
            Code::InconsistentGroupProtocol => Self::OtherMember,
            Code::FencedInstanceId => Self::InstanceTaken,
            Code::InvalidTransactionTimeout => Self::TransactionTimeout,
            Code::SaslAuthenticationFailed | Code::Authentication | Code::InvalidArgument => {
                Self::Refused
            }
            Code::InvalidTopic => Self::TopicName,
            Code::InvalidConfig
            | Code::PolicyViolation
            | Code::InvalidReplicationFactor
            | Code::InvalidPartitions => Self::TopicCreation,
            Code::UnsupportedFeature => Self::Unsupported,
            Code::BadMessage
            | Code::BadCompression
            | Code::InvalidMessage
            | Code::NotImplemented => Self::Unreadable,
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => Self::TooLarge,
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced,
            _ => Self::Unavailable,
        }
    }
}

/// The failure that a librdkafka error is; `what` names what was being done.
pub fn failure(what: &str, error: KafkaError) -> Failure {
    match error {
        // The error itself holds the property's value, which may be a secret.
        KafkaError::ClientConfig(_, reason, property, _) => Failure::new(
            KafkaFailure::Property,
            format!("{what}: property {property}: {reason}"),
        ),
        KafkaError::ClientCreation(_) => {
            Failure::new(KafkaFailure::Property, what).caused_by(error)
        }
        other => {
            let code = other.rdkafka_error_code();
            let kind = code.map_or(KafkaFailure::Unavailable, KafkaFailure::from);
            Failure::new(kind, what).caused_by(other)
        }
    }
}

/// The failure that a code in an answer is.
pub(crate) fn refused_with(what: &str, code: RDKafkaErrorCode) -> Failure {
    Failure::new(KafkaFailure::from(code), what).caused_by(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_remedy_of_what_was_refused() {
        use RDKafkaErrorCode as Code;
        for (code, named) in [
            (Code::InvalidTopic, "KAFKA_TOPIC"),
            (Code::InvalidTopic, "KAFKA_DEAD_LETTER_TOPIC"),
            (Code::PolicyViolation, "created"),
            (Code::InvalidPartitions, "KAFKA_PARTITIONS"),
            (Code::Authentication, "user"),
            (Code::UnsupportedFeature, "newer broker"),
            (Code::GroupAuthorizationFailed, "Read on the consumer group"),
            (Code::TopicAuthorizationFailed, "Write to publish"),
        ] {
            let entry = KafkaFailure::from(code).entry();
            assert_eq!(entry.retry, Retry::Permanent, "{code}");
            assert!(entry.remedy.contains(named), "{code}: {}", entry.remedy);
        }
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "no such value".to_owned(),
            "linger.ms".to_owned(),
            "hunter2".to_owned(),
        );
        let failure = failure("creating the producer", error);
        assert!(failure.is(KafkaFailure::Property));
        assert_eq!(
            failure.to_string(),
            "creating the producer: property linger.ms: no such value"
        );
    }
}
