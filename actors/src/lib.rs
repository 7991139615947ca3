//! The actors of ftap, their supervision and the delivery protocol of the lake.
pub mod events;
pub mod failpoint;
pub mod health;
pub mod lake;
pub mod meters;
pub mod settings;
pub mod supervision;
pub mod transaction;
