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
    /// The broker refuses: a login, a policy, a bad property.
    Refused,
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
                "check the settings that the error names, the topic, its permissions and KAFKA_EXTRA",
            ),
            Self::Unresolved => entry(
                "kafka_address_unknown",
                Retry::Transient,
                "correct the broker's advertised.listeners, or make the name known by DNS or /etc/hosts",
            ),
            Self::TopicForbidden => entry(
                "kafka_topic_forbidden",
                Retry::Permanent,
                "allow the user Describe and Read on the topic to read it, Describe and Write to publish, Create to create it; README lists the rights of each command",
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
            Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::InvalidArgument
            | Code::InvalidConfig
            | Code::PolicyViolation
            | Code::InvalidTopic
            | Code::InvalidReplicationFactor
            | Code::InvalidPartitions
            | Code::UnsupportedFeature => Self::Refused,
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
            KafkaFailure::Refused,
            format!("{what}: property {property}: {reason}"),
        ),
        KafkaError::ClientCreation(_) => Failure::new(KafkaFailure::Refused, what).caused_by(error),
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
