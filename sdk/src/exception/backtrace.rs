//! The frames of a backtrace, read from its text, and which of them are the service's own.

use std::fmt;

/// Most of the service's own functions that are told of a backtrace (32); further ones, which are the outer ones, are left out.
const OWN_FRAMES_MAX: usize = 32;

/// Most frames that are kept of a backtrace (256); further ones, which are the outer ones, are left out.
const FRAMES_MAX: usize = 256;

/// A backtrace, innermost frame first. Shown as the standard library shows one.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<Frame>);

#[derive(Debug, PartialEq)]
struct Frame {
    function: String,
    /// The file with the line, `./src/shop.rs:77`, if the program has debugging information.
    place: Option<String>,
}

impl Frames {
    /// Those of a backtrace as its `Display` shows it: `   0: checkout::charge`, then perhaps `             at ./src/shop.rs:77:13`.
    pub(crate) fn of_display(text: &str) -> Self {
        let mut frames: Vec<Frame> = Vec::new();
        for line in text.lines().map(str::trim) {
            let numbered = line.split_once(": ").filter(|(number, _)| number.parse::<u32>().is_ok());
            if let Some((_, function)) = numbered {
                if frames.len() == FRAMES_MAX {
                    break;
                }
                frames.push(Frame { function: without_hash(function.trim()).to_owned(), place: None });
            } else if let (Some(place), Some(last)) = (line.strip_prefix("at "), frames.last_mut()) {
                last.place = Some(without_column(place).to_owned());
            }
        }
        Self(frames)
    }

    /// Those that the `Debug` of an error shows: `anyhow` and `eyre` end theirs with a backtrace's `Display`, and a derived one has the `Debug` of
    /// the field `backtrace`.
    pub(super) fn in_debug(text: &str) -> Self {
        if let Some((_, backtrace)) = text.split_once("Stack backtrace:\n") {
            return Self::of_display(backtrace);
        }
        let Some((_, list)) = text.split_once("Backtrace [{ fn: \"") else { return Self::default() };
        let list = list.split("}]").next().unwrap_or_default();
        Self(list.split("{ fn: \"").take(FRAMES_MAX).map(debug_frame).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The service's own functions.
    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.own_frames().map(|frame| frame.function.as_str())
    }

    /// The same with their places, a line each.
    pub(super) fn shown_own(&self) -> impl fmt::Display {
        let lines = self.own_frames().map(|Frame { function, place }| match place {
            Some(place) => format!("{function} ({place})"),
            None => function.clone(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn own_frames(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().filter(|frame| frame.is_own()).take(OWN_FRAMES_MAX)
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Frame { function, place }) in self.0.iter().enumerate() {
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}{i:>4}: {function}")?;
            if let Some(place) = place {
                write!(f, "\n             at {place}")?;
            }
        }
        Ok(())
    }
}

impl Frame {
    /// Neither of a crate from a registry, nor of what every program has around it. A name without a path is one of C's, if it has no place either.
    fn is_own(&self) -> bool {
        let is_foreign = |place: &String| FOREIGN_FOLDERS.iter().any(|folder| place.contains(folder));
        let name = self.function.trim_start_matches(['<', '&', ' ']);
        let name = name.strip_prefix("dyn ").unwrap_or(name);
        let (root, has_path) = name.split_once("::").map_or((name, false), |(root, _)| (root, true));
        let is_elsewhere = self.place.as_ref().map_or(!has_path, is_foreign);
        !is_elsewhere && !FOREIGN_CRATES.contains(&root)
    }
}

/// Where the sources of other people's crates are.
const FOREIGN_FOLDERS: [&str; 5] =
    ["/rustc/", "/registry/src/", "/git/checkouts/", "/library/std/src/", "/library/core/src/"];

/// Known by their names, since a program without debugging information tells no files.
const FOREIGN_CRATES: [&str; 23] = [
    "__rustc",
    "std",
    "core",
    "alloc",
    "test",
    "watchbell",
    "tracing",
    "tracing_core",
    "tracing_subscriber",
    "anyhow",
    "eyre",
    "backtrace",
    "tokio",
    "futures_core",
    "futures_util",
    "hyper",
    "hyper_util",
    "tower",
    "tower_http",
    "axum",
    "tonic",
    "rayon_core",
    "crossbeam_utils",
];

/// `checkout::charge", file: "./src/shop.rs", line: 77 }, `
fn debug_frame(text: &str) -> Frame {
    let (function, rest) = text.split_once('"').unwrap_or((text, ""));
    let file = rest.split_once("file: \"").and_then(|(_, file)| file.split('"').next());
    let line = rest.split_once("line: ").map(|(_, line)| line.trim_end_matches([' ', ',', '}']));
    let place = file.map(|file| format!("{file}:{}", line.unwrap_or("?")));
    Frame { function: without_hash(function).to_owned(), place }
}

/// The function's name without what tells its instances apart: `charge::h0123456789abcdef`.
fn without_hash(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => function,
    }
}

fn without_column(place: &str) -> &str {
    match place.rsplit_once(':') {
        Some((rest, column)) if column.parse::<u32>().is_ok() && rest.contains(':') => rest,
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_backtrace() {
        let text = "   0: std::panicking::begin::h0123456789abcdef\n             at /rustc/abc/library/std/src/panicking.rs:5:1
   1: checkout::charge::{{closure}}::hfedcba9876543210\n             at ./src/shop.rs:77:13
   2: serde::de::from_str\n             at /x/.cargo/registry/src/index/serde/src/de.rs:1:2
   3: <checkout::Cart as core::fmt::Debug>::fmt
   4: tokio::runtime::run\n   5: main\n   6: __libc_start_main\n";
        let frames = Frames::of_display(text);
        let own: Vec<_> = frames.own().collect();
        assert_eq!(own, ["checkout::charge::{{closure}}", "<checkout::Cart as core::fmt::Debug>::fmt"]);
        let shown = frames.shown_own().to_string();
        assert_eq!(
            shown,
            "checkout::charge::{{closure}} (./src/shop.rs:77)\n<checkout::Cart as core::fmt::Debug>::fmt"
        );
        assert_eq!(Frames::of_display(&frames.to_string()).0, frames.0, "what is shown is read again");
    }

    #[test]
    fn the_debug_of_a_real_backtrace() {
        let backtrace = std::backtrace::Backtrace::force_capture();
        let of_debug = Frames::in_debug(&format!("Refused {{ backtrace: {backtrace:?}, by: \"them\" }}"));
        let of_display = Frames::of_display(&backtrace.to_string());
        let here = |frames: &Frames| {
            frames.0.iter().position(|frame| frame.function.contains("the_debug_of_a_real_backtrace"))
        };
        assert!(here(&of_debug).is_some() && here(&of_display).is_some(), "{of_debug}\n\n{of_display}");
        assert!(
            of_debug.0.iter().any(|frame| frame.place.as_ref().is_some_and(|place| place.contains("backtrace.rs:")))
        );
        assert!(Frames::in_debug("Refused { backtrace: <disabled> }").is_empty());
    }
}
