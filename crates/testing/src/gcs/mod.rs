//! A test server with faults that speaks the part of Google Cloud Storage's XML API that the
//! lake uses: puts, create-only or not, reads with ranges, listings in pages.
//!
//! Promises: a put is seen whole or not at all, and of several create-only puts of one key one
//! wins. A fault strikes exactly the requests that its [`Rule`] says, the same ones in each run
//! with the same seed and order of requests. What a test asserts on is counted, see [`Counts`].
//! What it does not know it refuses with 400 or 501, it never guesses. For tests on loopback:
//! it checks no credentials, and what it keeps does not survive a crash of the machine.

mod answer;
mod counts;
mod listing;
mod objects;
mod rule;
mod server;

pub use counts::{Asked, Counts};
pub use rule::{Fault, Operation, Rule, Times};
pub use server::{Options, Server};
