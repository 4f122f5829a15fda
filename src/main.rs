//! The built-in binary.
fn main() {}
