//! The actors of ftap, their supervision and the delivery protocol of the lake.
pub mod lake;
pub mod settings;
pub mod transaction;
