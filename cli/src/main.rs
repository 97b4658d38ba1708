//! The ringdb program.
fn main() {}
