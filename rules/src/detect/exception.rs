//! The pattern of an exception: its type and the frames of the program itself, whatever its message says.

use super::mask::{cut, mask_parts};

/// Stands between the parts of an exception's pattern: `IllegalStateException ← shop.Checkout.pay ← shop.Cart.total`.
pub(crate) const BETWEEN_FRAMES: &str = " ← ";

/// So many of the frames nearest to the error tell it from others.
const FRAMES: usize = 3;

/// Lines of a stack trace that are looked at.
const LINES_MAX: usize = 100;

/// Appends the pattern of a stack trace; `false` where it has no frames that can be read, and nothing is appended.
pub(crate) fn of_stacktrace(kind: &str, stacktrace: &str, out: &mut Vec<u8>) -> bool {
    let lines = stacktrace.lines().take(LINES_MAX);
    let is_rust = lines.clone().any(|line| symbol(line).is_some());
    let mut frames: Vec<Frame<'_>> = match is_rust {
        true => lines.filter_map(symbol).collect(), // between them stand the places in the files
        false => lines.filter_map(frame).collect(),
    };
    if stacktrace.contains("most recent call last") {
        frames.reverse();
    }
    let has_own = frames.iter().any(|frame| frame.is_own);
    frames.retain(|frame| frame.is_own || !has_own);
    put(kind, frames.iter().map(|frame| (frame.place, frame.function)), out)
}

/// The same of the program's own functions, a line each, the innermost first: `shop::checkout::pay (./src/checkout.rs:42)`.
pub(crate) fn of_own_functions(kind: &str, functions: &str, out: &mut Vec<u8>) -> bool {
    put(kind, functions.lines().map(|line| (without_place(line), None)), out)
}

/// The same of what tells one error from others without its frames.
pub(crate) fn of_fingerprint(kind: &str, fingerprint: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    [kind, BETWEEN_FRAMES, fingerprint].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    cut(start, out);
    true
}

fn put<'a>(kind: &str, frames: impl Iterator<Item = (&'a str, Option<&'a str>)>, out: &mut Vec<u8>) -> bool {
    let mut frames = frames.take(FRAMES).peekable();
    if frames.peek().is_none() {
        return false;
    }
    let start = out.len();
    out.extend_from_slice(kind.as_bytes());
    for (place, function) in frames {
        out.extend_from_slice(BETWEEN_FRAMES.as_bytes());
        mask_parts(place.as_bytes(), out);
        if let Some(function) = function {
            out.push(b' ');
            mask_parts(function.as_bytes(), out);
        }
    }
    cut(start, out);
    true
}

/// A call.
struct Frame<'a> {
    /// The function, or the file.
    place: &'a str,
    /// The function in the file.
    function: Option<&'a str>,
    /// Whether it is of the program, rather than of a library.
    is_own: bool,
}

/// The frame that a line tells of, if it is one of a trace of Java, Kotlin, .NET, JavaScript, Python or Go.
fn frame(line: &str) -> Option<Frame<'_>> {
    let text = line.trim();
    if let Some(file) = text.strip_prefix("File \"") {
        let (path, rest) = file.split_once('"')?; // Python: File "/app/shop.py", line 42, in pay
        let function = rest.split_once(", in ").map(|(_, function)| function);
        return Some(Frame { place: file_name(path), function, is_own: is_own(path, PYTHON) });
    }
    if let Some(call) = text.strip_prefix("at ") {
        let call = call.strip_prefix("async ").unwrap_or(call);
        let place = match call.split_once('(') {
            Some((function, _)) => function.trim_end(), // Java: at shop.Checkout.pay(Checkout.java:42)
            None => without_line(file_name(call)),      // JavaScript: at /app/shop.js:10:5
        };
        return Some(Frame { place, function: None, is_own: is_own(text, CALLS) });
    }
    let is_call = !line.starts_with(char::is_whitespace) && text.ends_with(')') && text.contains('.');
    let (place, _) = text.rsplit_once('(').filter(|_| is_call)?; // Go: main.pay(0x1, 0x2)
    Some(Frame { place, function: None, is_own: is_own(text, GO) })
}

/// The frame of Rust that a line tells of: `3: shop::checkout::pay`.
fn symbol(line: &str) -> Option<Frame<'_>> {
    let (number, symbol) = line.trim().split_once(": ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let place = without_hash(symbol);
    is_number.then_some(Frame { place, function: None, is_own: !RUST.iter().any(|of| place.starts_with(of)) })
}

fn is_own(frame: &str, libraries: &[&str]) -> bool {
    !libraries.iter().any(|library| frame.contains(library))
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Without ` (./src/checkout.rs:42)`.
fn without_place(function: &str) -> &str {
    function.split_once(" (").map_or(function, |(function, _)| function).trim()
}

/// Without `:10:5`.
fn without_line(file: &str) -> &str {
    file.split_once(':').map_or(file, |(file, _)| file)
}

/// Without `::h0123456789abcdef`, which each build makes anew.
fn without_hash(symbol: &str) -> &str {
    match symbol.rsplit_once("::h") {
        Some((function, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => function,
        _ => symbol,
    }
}

// What stands in frames that are not the program's own.
const PYTHON: &[&str] = &["site-packages", "dist-packages", "/lib/python", "<frozen"];
const GO: &[&str] = &["runtime.", "net/http.", "panic(", "testing.", "reflect."];
#[rustfmt::skip]
const CALLS: &[&str] = &[
    "at java.", "at javax.", "at jdk.", "at sun.", "at kotlin.", "at kotlinx.", "at org.springframework.", "at org.apache.", "at io.netty.",
    "at System.", "at Microsoft.",
    "node_modules", "node:", "(internal/", "<anonymous>",
];

/// How functions of Rust begin that are not the program's own.
#[rustfmt::skip]
const RUST: &[&str] = &[
    "std::", "core::", "alloc::", "tokio::", "<std::", "<core::", "<alloc::", "<tokio::", "rust_", "_", "backtrace::", "anyhow::", "eyre::",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::datadriven;
    use crate::detect::PATTERN_BYTES_MAX;

    proptest! {
        #[test]
        fn any_text_is_read_as_a_trace(text in "([ \\t]{0,3}(at |File \"|3: |main\\.)?[a-zé0-9.(/:,\" ]{0,20}\\)?\n){0,8}") {
            let mut out = Vec::new();
            of_stacktrace("T", &text, &mut out);
            of_own_functions("T", &text, &mut out);
            prop_assert!(out.len() <= 2 * PATTERN_BYTES_MAX && String::from_utf8(out).is_ok());
        }
    }

    /// The type stands in the first line of a case, the stack trace below.
    #[test]
    fn frames_of_many_languages() {
        datadriven::run("exceptions", |text| {
            let (kind, stacktrace) = text.split_once('\n').unwrap_or((text, ""));
            let mut out = Vec::new();
            match of_stacktrace(kind, stacktrace, &mut out) {
                true => String::from_utf8(out).unwrap(),
                false => "no frames".to_owned(),
            }
        });
    }
}
