//! Events that are not made by a struct: the embedded broker's, a library that
//! knows no actors, and those of the log itself.

use super::{EventDoc, FieldDoc, Kind};

const fn event(
    name: &'static str,
    level: &'static str,
    doc: &'static str,
    fields: &'static [FieldDoc],
) -> EventDoc {
    EventDoc {
        name,
        type_name: "",
        level,
        doc,
        fields,
    }
}

const fn text(name: &'static str, doc: &'static str) -> FieldDoc {
    field(name, Kind::Text, doc)
}

const fn number(name: &'static str, doc: &'static str) -> FieldDoc {
    field(name, Kind::Number, doc)
}

const fn boolean(name: &'static str, doc: &'static str) -> FieldDoc {
    field(name, Kind::Bool, doc)
}

const fn field(name: &'static str, kind: Kind, doc: &'static str) -> FieldDoc {
    FieldDoc {
        name,
        kind,
        is_nullable: false,
        doc,
    }
}

/// The rest of the catalogue; `topic_created` of the broker has the fields of ours.
pub const OTHERS: &[EventDoc] = &[
    event(
        "panicked",
        "ERROR",
        "Some thread panicked; supervision tells separately what it does about it.",
        &[
            text("error", "The panic's message."),
            text("thread", "Name of the thread."),
            text("location", "Where in the source."),
        ],
    ),
    event(
        "command_failed",
        "ERROR",
        "The command ends with an error; only where the log is JSON, else it is text.",
        &[
            text("error", "What failed, why, and what to do."),
            number("exit_code", "As of `process_stopped`."),
        ],
    ),
    event(
        "library_message",
        "WARN",
        "A library logged a warning or an error.",
        &[text("library", "Which."), text("message", "What it said.")],
    ),
    event(
        "broker_started",
        "INFO",
        "The embedded broker listens (this and the following: actor `embedded_kafka`).",
        &[
            text("addr", "Where."),
            text("data_dir", "Where its data is."),
        ],
    ),
    event(
        "broker_stopped",
        "WARN",
        "The embedded broker ended unexpectedly.",
        &[text("error", "Why.")],
    ),
    event(
        "topic_deleted",
        "INFO",
        "A client deleted a topic.",
        &[text("topic", "The topic.")],
    ),
    event(
        "retention_deleted",
        "INFO",
        "Old segments were deleted.",
        &[
            text("topic", "The topic."),
            number("partition", "The partition."),
            number("bytes", "How much."),
            number("log_start", "The first offset that is left."),
        ],
    ),
    event(
        "torn_tail_cut",
        "WARN",
        "A write that a crash tore was cut off; nothing that was acknowledged.",
        &[
            text("path", "The file."),
            number("kept_bytes", "Bytes that are whole."),
            number("cut_bytes", "Bytes cut off."),
        ],
    ),
    event(
        "transaction_aborted",
        "INFO",
        "A transaction was aborted for its producer.",
        &[
            text("transactional_id", "The producer's id."),
            text("reason", "Why."),
        ],
    ),
    event(
        "transaction_unfinished",
        "WARN",
        "A decided transaction could not be written out; it is tried again.",
        &[
            text("transactional_id", "The producer's id."),
            boolean("commit", "Whether it will be committed."),
        ],
    ),
    event(
        "group_member_removed",
        "INFO",
        "A consumer was silent for longer than its session timeout.",
        &[text("group", "Its group."), text("member", "Its id.")],
    ),
    event(
        "connection_dropped",
        "WARN",
        "A connection was closed: a malformed request, or too many connections. At debug also when the peer went away.",
        &[text("peer", "Its address."), text("reason", "Why.")],
    ),
    event(
        "accept_failed",
        "WARN",
        "A connection could not be accepted.",
        &[text("error", "What the system said.")],
    ),
    event(
        "storage_error",
        "ERROR",
        "The broker could not write or read. The client gets an error, and the log is unchanged. At most one per path and ten seconds.",
        &[
            text("path", "Where."),
            text("error", "What the system said."),
            text("remedy", "What to do."),
            number(
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
            text("host", "The socket's folder, or 127.0.0.1."),
            number("port", "Its port."),
            text("version", "PostgreSQL's version."),
            number("pid", "The server's process id."),
            text("data_dir", "Where its data is."),
        ],
    ),
    event(
        "private_postgres_ended",
        "WARN",
        "The private server ended unexpectedly; it is restarted.",
        &[
            number("pid", "Its process id."),
            text("status", "How it ended."),
        ],
    ),
    event(
        "private_postgres_restarted",
        "INFO",
        "The private server takes connections again.",
        &[number("pid", "Its new process id.")],
    ),
    event(
        "private_postgres_failed",
        "ERROR",
        "The private server could not be started again; it is tried again.",
        &[
            text("error", "Why."),
            number("retry_in_ms", "Pause before the next try."),
        ],
    ),
    event(
        "private_postgres_left_behind",
        "WARN",
        "An earlier process left its private server running; it is stopped first.",
        &[
            number("pid", "Its process id."),
            text("data_dir", "Where its data is."),
        ],
    ),
];
