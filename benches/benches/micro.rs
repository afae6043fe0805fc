//! Small pieces, with criterion.

fn main() {}
