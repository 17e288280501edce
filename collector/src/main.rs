//! The collector's program.

fn main() {}
