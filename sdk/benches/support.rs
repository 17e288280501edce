//! What the benchmarks share.

pub(crate) mod clock;
pub(crate) mod far_end;
pub(crate) mod stacks;

/// Shows a result.
#[allow(clippy::print_stdout)]
pub(crate) fn print(text: &str) {
    println!("{text}");
}
