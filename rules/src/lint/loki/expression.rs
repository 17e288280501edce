//! Numbers and durations of an expression that Watchbell takes and Loki does not.

use std::ops::Range;
use std::time::Duration;

use crate::logql::lexer::{self, Token, TokenKind};
use crate::pipeline::convert;
use crate::time::{format_duration, is_prometheus_duration};

/// What Loki refuses there, and what to write instead.
pub(super) struct Refused {
    pub(super) place: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

/// In the order of the expression.
pub(super) fn refused(expr: &str) -> Vec<Refused> {
    let tokens = lexer::tokens(expr).unwrap_or_default();
    let reads = |at: usize| {
        let before = |back: usize| at.checked_sub(back).map(|before| &tokens[before]);
        token(expr, &tokens[at], before(1), before(2))
    };
    (0..tokens.len()).filter_map(reads).collect()
}

fn token(expr: &str, token: &Token, before: Option<&Token>, second: Option<&Token>) -> Option<Refused> {
    let place = token.span.range();
    let text = &expr[place.clone()];
    let sign = before.filter(|before| before.kind == TokenKind::Symbol("-"));
    let signed = sign.map(|sign| sign.span.range().start..place.end);
    let is_offset = second.is_some_and(|second| second.kind == TokenKind::Keyword("offset"));
    let (place, message, help) = match (&token.kind, signed) {
        (TokenKind::Range(range), _) if !is_prometheus_duration(text[1..text.len() - 1].trim()) => {
            (place, format!("Loki takes no range `{text}`"), format!("write `[{}]`", in_millis(*range)))
        }
        (TokenKind::Duration(offset), Some(place)) if is_offset && convert::duration(&expr[place.clone()]).is_err() => {
            let help = format!("write `-{}`, without a blank and in units up to hours", in_hours(*offset));
            (place.clone(), format!("Loki takes no offset `{}`", &expr[place]), help)
        }
        (TokenKind::Duration(duration), _) if !is_duration(text) => {
            let written = Some(format_duration(*duration)).filter(|written| is_prometheus_duration(written));
            let help = format!("write `{}`", written.unwrap_or_else(|| in_hours(*duration)));
            (place, format!("Loki takes no duration `{text}`"), help)
        }
        (TokenKind::Number(_), _) if is_broken_octal(text) => {
            let number = text.trim_start_matches(['0', '_']);
            (place, format!("Loki takes no number `{text}`, which begins as an octal one"), format!("write `{number}`"))
        }
        (TokenKind::Number(_), Some(place)) if &expr[place.clone()] == "-0" => {
            (place, "Loki reads `-0` as a duration".to_owned(), "write `0`, or a blank behind the `-`".to_owned())
        }
        _ => return None,
    };
    Some(Refused { place, message, help })
}

/// Whether Loki's lexer makes a duration of it: by Prometheus's rules, or else by Go's, but for the Greek letter mu.
fn is_duration(text: &str) -> bool {
    is_prometheus_duration(text) || convert::duration(text).is_ok() && !text.contains('\u{3bc}')
}

/// Go's scanner reads a whole number behind a zero as an octal one.
fn is_broken_octal(text: &str) -> bool {
    let is_whole = text.bytes().all(|byte| byte == b'_' || byte.is_ascii_digit());
    is_whole && text.starts_with('0') && text.contains(['8', '9'])
}

/// In milliseconds and what is longer, at least one.
pub(super) fn in_millis(duration: Duration) -> String {
    format_duration(Duration::from_millis((duration.as_millis() as u64).max(1)))
}

/// In hours and what is shorter: `36h`.
fn in_hours(duration: Duration) -> String {
    let (hours, rest) = (duration.as_secs() / 3600, duration - Duration::from_secs(duration.as_secs() / 3600 * 3600));
    match (hours, rest.is_zero()) {
        (0, _) => format_duration(rest),
        (_, true) => format!("{hours}h"),
        _ => format!("{hours}h{}", format_duration(rest)),
    }
}
