//! The bell: everything is in the library.

fn main() {}
