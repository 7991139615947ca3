//! Events that are not made by a struct: the embedded broker's, a library that
//! knows no actors, and those of the log itself.

use super::EventDoc;

const fn event(
    name: &'static str,
    level: &'static str,
    doc: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> EventDoc {
    EventDoc {
        name,
        type_name: "",
        level,
        doc,
        fields,
    }
}

/// The rest of the catalogue; `topic_created` of the broker has the fields of ours.
pub const OTHERS: &[EventDoc] = &[
    event(
        "panicked",
        "ERROR",
        "Some thread panicked; supervision tells separately what it does about it.",
        &[
            ("error", "The panic's message."),
            ("thread", "Name of the thread."),
            ("location", "Where in the source."),
        ],
    ),
    event(
        "library_message",
        "WARN",
        "A library logged a warning or an error.",
        &[("library", "Which."), ("message", "What it said.")],
    ),
    event(
        "broker_started",
        "INFO",
        "The embedded broker listens (this and the following: actor `embedded_kafka`).",
        &[("addr", "Where."), ("data_dir", "Where its data is.")],
    ),
    event(
        "broker_stopped",
        "WARN",
        "The embedded broker ended unexpectedly.",
        &[("error", "Why.")],
    ),
    event(
        "topic_deleted",
        "INFO",
        "A client deleted a topic.",
        &[("topic", "The topic.")],
    ),
    event(
        "retention_deleted",
        "INFO",
        "Old segments were deleted.",
        &[
            ("topic", "The topic."),
            ("partition", "The partition."),
            ("bytes", "How much."),
            ("log_start", "The first offset that is left."),
        ],
    ),
    event(
        "torn_tail_cut",
        "WARN",
        "A write that a crash tore was cut off; nothing that was acknowledged.",
        &[
            ("path", "The file."),
            ("kept_bytes", "Bytes that are whole."),
            ("cut_bytes", "Bytes cut off."),
        ],
    ),
    event(
        "transaction_aborted",
        "INFO",
        "A transaction was aborted for its producer.",
        &[
            ("transactional_id", "The producer's id."),
            ("reason", "Why."),
        ],
    ),
    event(
        "transaction_unfinished",
        "WARN",
        "A decided transaction could not be written out; it is tried again.",
        &[
            ("transactional_id", "The producer's id."),
            ("commit", "Whether it will be committed."),
        ],
    ),
    event(
        "group_member_removed",
        "INFO",
        "A consumer was silent for longer than its session timeout.",
        &[("group", "Its group."), ("member", "Its id.")],
    ),
    event(
        "connection_dropped",
        "WARN",
        "A connection was closed: a malformed request, or too many connections. At debug also when the peer went away.",
        &[("peer", "Its address."), ("reason", "Why.")],
    ),
    event(
        "accept_failed",
        "WARN",
        "A connection could not be accepted.",
        &[("error", "What the system said.")],
    ),
    event(
        "storage_error",
        "ERROR",
        "The broker could not write or read. The client gets an error, and the log is unchanged. At most one per path and ten seconds.",
        &[
            ("path", "Where."),
            ("error", "What the system said."),
            ("remedy", "What to do."),
            (
                "left_out",
                "Errors of this path since the last one that was logged.",
            ),
        ],
    ),
    event(
        "private_postgres_started",
        "INFO",
        "The private PostgreSQL cluster takes connections (this and the following: actor `private_postgres`).",
        &[
            ("host", "The socket's folder, or 127.0.0.1."),
            ("port", "Its port."),
            ("version", "PostgreSQL's version."),
            ("pid", "The server's process id."),
            ("data_dir", "Where its data is."),
        ],
    ),
    event(
        "private_postgres_ended",
        "WARN",
        "The private server ended unexpectedly; it is restarted.",
        &[("pid", "Its process id."), ("status", "How it ended.")],
    ),
    event(
        "private_postgres_restarted",
        "INFO",
        "The private server takes connections again.",
        &[("pid", "Its new process id.")],
    ),
    event(
        "private_postgres_failed",
        "ERROR",
        "The private server could not be started again; it is tried again.",
        &[
            ("error", "Why."),
            ("retry_in_ms", "Pause before the next try."),
        ],
    ),
    event(
        "private_postgres_left_behind",
        "WARN",
        "An earlier process left its private server running; it is stopped first.",
        &[
            ("pid", "Its process id."),
            ("data_dir", "Where its data is."),
        ],
    ),
];
