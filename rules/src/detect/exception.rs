//! The pattern of an exception: its type and the frames of the program itself, whatever its message says.

use super::mask::{cut, mask_parts};

/// Stands between the parts of an exception's pattern: `IllegalStateException ← shop.Checkout.pay ← shop.Cart.total`.
pub(crate) const BETWEEN_FRAMES: &str = " ← ";

/// So many of the frames nearest to the error tell it from others.
const FRAMES: usize = 3;

/// Lines of a stack trace that are looked at.
const LINES_MAX: usize = 100;

/// Appends the pattern; `false` where the stack trace has no frames that can be read, and nothing is appended.
pub(crate) fn pattern(kind: &str, stacktrace: &str, out: &mut Vec<u8>) -> bool {
    let mut frames: Vec<Frame<'_>> = stacktrace.lines().take(LINES_MAX).filter_map(frame).collect();
    if stacktrace.contains("most recent call last") {
        frames.reverse();
    }
    let has_own = frames.iter().any(|frame| frame.is_own);
    let mut told = frames.iter().filter(|frame| frame.is_own || !has_own).take(FRAMES).peekable();
    if told.peek().is_none() {
        return false;
    }
    let start = out.len();
    out.extend_from_slice(kind.as_bytes());
    for frame in told {
        out.extend_from_slice(BETWEEN_FRAMES.as_bytes());
        mask_parts(frame.place.as_bytes(), out);
        if let Some(function) = frame.function {
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

/// The frame that a line tells of, if it is one of a trace of Java, Kotlin, .NET, JavaScript, Python, Go or Rust.
fn frame(line: &str) -> Option<Frame<'_>> {
    let text = line.trim();
    let frame =
        |place, function| Some(Frame { place, function, is_own: !LIBRARIES.iter().any(|of| text.contains(of)) });
    if let Some(file) = text.strip_prefix("File \"") {
        let (path, rest) = file.split_once('"')?; // Python: File "/app/shop.py", line 42, in pay
        return frame(file_name(path), rest.split_once(", in ").map(|(_, function)| function));
    }
    if let Some(call) = text.strip_prefix("at ") {
        let call = call.strip_prefix("async ").unwrap_or(call);
        return match call.split_once('(') {
            Some((function, _)) => frame(function.trim_end(), None), // Java: at shop.Checkout.pay(Checkout.java:42)
            None => frame(without_line(file_name(call)), None),      // JavaScript: at /app/shop.js:10:5
        };
    }
    if let Some((number, symbol)) = text.split_once(": ") {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        return if is_number { frame(without_hash(symbol), None) } else { None }; // Rust: 3: shop::checkout::pay
    }
    let is_call = !line.starts_with(char::is_whitespace) && text.ends_with(')') && text.contains('.');
    let (function, _) = text.rsplit_once('(').filter(|_| is_call)?; // Go: main.pay(0x1, 0x2)
    frame(function, None)
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
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

/// What stands in frames that are not the program's own.
const LIBRARIES: &[&str] = &[
    // Java and Kotlin
    "at java.",
    "at javax.",
    "at jdk.",
    "at sun.",
    "at kotlin.",
    "at kotlinx.",
    "at org.springframework.",
    "at org.apache.",
    "at io.netty.",
    // .NET
    "at System.",
    "at Microsoft.",
    // JavaScript
    "node_modules",
    "node:",
    "(internal/",
    "<anonymous>",
    // Python
    "site-packages",
    "dist-packages",
    "/lib/python",
    "<frozen",
    // Rust
    " std::",
    " core::",
    " alloc::",
    " tokio::",
    " rust_",
    " __",
    "/rustc/",
    "/.cargo/",
    " backtrace::",
    " <",
    // Go
    "runtime.",
    "net/http.",
    "panic(",
    "testing.",
    "reflect.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadriven;

    /// The type stands in the first line of a case, the stack trace below.
    #[test]
    fn frames_of_many_languages() {
        datadriven::run("exceptions", |text| {
            let (kind, stacktrace) = text.split_once('\n').unwrap_or((text, ""));
            let mut out = Vec::new();
            match pattern(kind, stacktrace, &mut out) {
                true => String::from_utf8(out).unwrap(),
                false => "no frames".to_owned(),
            }
        });
    }
}
