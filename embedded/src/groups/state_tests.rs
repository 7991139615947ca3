//! The group's state machine under a clock of the test's own.
use super::state::*;
