//! What depends on the broker: run with the embedded one and, with `KAFKA_BROKER` set, on Apache
//! Kafka.

mod backlog;
mod bad_input;
mod clock;
mod compose;
mod delivery;
mod dlq;
mod faults;
mod limits;
mod open_transaction;
mod poison;
mod quarantine;
mod redrive;
mod reset;
mod retention;
mod serve;
mod timestamps;
mod topics;
mod verify;
