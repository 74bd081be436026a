//! The kival server program.
fn main() {}
