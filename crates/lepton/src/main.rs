//! The one binary.
mod simulate;
fn main() {}
