//! The template of a line: numbers, ids, addresses, times and paths, which differ from one record to the next, are masked.
//!
//! ```text
//! payment 4711 of ann@example.com refused after 35ms    payment <num> of <addr> refused after <num>
//! ```

/// Greatest length of a pattern, in bytes. What is behind it of a longer line is not looked at, and the pattern ends in `…`.
pub const PATTERN_BYTES_MAX: usize = 256;

/// So much of a line is looked at.
const LINE_BYTES_MAX: usize = 16 * PATTERN_BYTES_MAX;

const NUMBER: &str = "<num>";
const ID: &str = "<id>";
const ADDRESS: &str = "<addr>";
const TIME: &str = "<time>";
const PATH: &str = "<path>";
const URL: &str = "<url>";

/// Appends the line's template; white space becomes a space each.
pub(crate) fn mask(line: &str, out: &mut Vec<u8>) {
    let end = (0..=line.len().min(LINE_BYTES_MAX)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let (bytes, start) = (&line.as_bytes()[..end], out.len());
    let (mut taken, mut word, mut at) = (0, 0, 0); // up to where it is appended, and where the present word begins
    while at < bytes.len() {
        let class = class(bytes[at]);
        if class == 0 {
            at += 1;
        } else if class & (SPACE | DELIMITER) != 0 {
            at += 1;
            if class & SPACE != 0 && (bytes[at - 1] != b' ' || bytes.get(at) == Some(&b' ')) {
                out.extend_from_slice(&bytes[taken..at - 1]);
                out.extend((out.len() > start).then_some(b' '));
                at += spaces(&bytes[at..]);
                taken = at;
            }
            word = at;
        } else {
            out.extend_from_slice(&bytes[taken..word]);
            at = mask_word(bytes, word, out);
            (taken, word) = (at, at);
            if out.len() - start > PATTERN_BYTES_MAX {
                break;
            }
        }
    }
    if at == bytes.len() {
        out.extend_from_slice(&bytes[taken..]);
    }
    cut(start, out);
}

fn spaces(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| class(**byte) & SPACE != 0).count()
}

/// Ends what began at `start` where it is too long.
pub(crate) fn cut(start: usize, out: &mut Vec<u8>) {
    if out.len() - start > PATTERN_BYTES_MAX {
        let room = start + PATTERN_BYTES_MAX - '…'.len_utf8();
        let is_boundary = |at: &usize| out[*at] & 0xC0 != 0x80;
        out.truncate((start..=room).rev().find(is_boundary).unwrap_or(start));
        out.extend_from_slice("…".as_bytes());
    }
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
}

/// Masks the word that begins at `start`; yields where it ends.
fn mask_word(bytes: &[u8], start: usize, out: &mut Vec<u8>) -> usize {
    let (mut end, seen) = word_end(bytes, start);
    let word = &bytes[start..end];
    let length = word.iter().rposition(|byte| !b".:!?".contains(byte)).map_or(0, |last| last + 1);
    match whole(&word[..length], seen) {
        Some(mask) => {
            out.extend_from_slice(mask.as_bytes());
            if matches!(mask, URL | PATH) && length == word.len() {
                end += query(&bytes[end..]);
            }
        }
        None => mask_parts(&word[..length], out),
    }
    out.extend_from_slice(&word[length..]);
    end
}

/// Where the next delimiter or space is, and which classes stand before it. A comma between digits is none.
fn word_end(bytes: &[u8], start: usize) -> (usize, u8) {
    let mut seen = 0;
    for at in start..bytes.len() {
        let class = class(bytes[at]);
        let is_in_number = bytes[at] == b','
            && at > start
            && bytes[at - 1].is_ascii_digit()
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if class & (SPACE | DELIMITER) != 0 && !is_in_number {
            return (at, seen);
        }
        seen |= class;
    }
    (bytes.len(), seen)
}

/// How long what stands behind a path may belong to it: `=1&y=2`.
fn query(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| class(**byte) & (SPACE | DELIMITER) == 0 || **byte == b'=').count()
}

/// What stands for the whole word.
fn whole(word: &[u8], seen: u8) -> Option<&'static str> {
    let first = *word.first()?;
    if seen & AT != 0 && word.iter().position(|byte| *byte == b'@').is_some_and(|at| word[at..].contains(&b'.')) {
        return Some(ADDRESS);
    }
    if seen & SLASH != 0 && word.windows(3).any(|part| part == b"://") {
        return Some(URL);
    }
    if is_uuid(word) || word.strip_prefix(b"0x").is_some_and(is_hex) {
        return Some(ID);
    }
    if first.is_ascii_digit() || b"+-".contains(&first) {
        match word {
            _ if is_number(word) => return Some(NUMBER),
            _ if is_ipv4(word) || is_ipv6(word) => return Some(ADDRESS),
            _ if is_time(word) => return Some(TIME),
            _ => {}
        }
    }
    if is_ipv6(word) {
        return Some(ADDRESS);
    }
    (seen & SLASH != 0 && is_path(word)).then_some(PATH)
}

/// Masks the parts of a word between characters that are neither letters nor digits.
pub(crate) fn mask_parts(word: &[u8], out: &mut Vec<u8>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
    for part in word.chunk_by(|a, b| is_part(*a) == is_part(*b)) {
        if part.iter().any(u8::is_ascii_digit) {
            mask_part(part, out);
        } else {
            out.extend_from_slice(part);
        }
    }
}

/// Letters and digits: a number, a name with numbers in it (`http2`, `Error404Exception`), or an id.
fn mask_part(part: &[u8], out: &mut Vec<u8>) {
    let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = part.len() - digits;
    let runs = part.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let is_id = letters > 0 && part.len() >= HEX_ID_CHARS && is_hex(part);
    let is_number = part[0].is_ascii_digit() && runs.clone().count() <= 2 && letters <= 3;
    let ends_in_number = !part[0].is_ascii_digit() && runs.clone().count() == 2;
    let is_name = letters >= 3 * digits && part.len() <= LONGEST_NAME && runs.clone().count() <= 5;
    if is_id || !(is_number || ends_in_number || is_name) {
        out.extend_from_slice(ID.as_bytes());
    } else if is_number {
        out.extend_from_slice(NUMBER.as_bytes());
    } else {
        runs.for_each(|run| out.extend_from_slice(if run[0].is_ascii_digit() { NUMBER.as_bytes() } else { run }));
    }
}

/// Hexadecimal digits, letters among them, are an id from so many on.
const HEX_ID_CHARS: usize = 6;

/// A longer mixture of letters and digits is no name.
const LONGEST_NAME: usize = 24;

/// A number with a unit, if any (`35ms`, `1.5GiB`, `99%`, `1,024`, `-3e-7`), or a duration of several (`1h30m`).
fn is_number(word: &[u8]) -> bool {
    let mut rest = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    loop {
        let digits = digits(rest);
        if digits == 0 {
            return false;
        }
        rest = exponent(fraction(&rest[digits..]));
        let unit = rest.iter().position(u8::is_ascii_digit).unwrap_or(rest.len());
        let (unit, behind) = rest.split_at(unit);
        if behind.is_empty() {
            return unit.len() <= 5
                && unit.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'%' || *byte >= 0x80);
        }
        if ![&b"d"[..], b"h", b"m", b"s", b"ms"].contains(&unit) {
            return false;
        }
        rest = behind;
    }
}

/// What stands behind `.5`, or `,024,512`.
fn fraction(mut rest: &[u8]) -> &[u8] {
    while let Some(behind) =
        rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")).or_else(|| rest.strip_prefix(b"_"))
    {
        match digits(behind) {
            0 => break,
            count => rest = &behind[count..],
        }
    }
    rest
}

/// What stands behind `e-7`.
fn exponent(rest: &[u8]) -> &[u8] {
    let Some(behind) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) else { return rest };
    let behind = behind.strip_prefix(b"-").or_else(|| behind.strip_prefix(b"+")).unwrap_or(behind);
    match digits(behind) {
        0 => rest,
        count => &behind[count..],
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// A date, a time, or both: `2026-11-24T18:00:00.123Z`, `24/Nov/2026:18:00:00`, `18:00:00,5`.
fn is_time(word: &[u8]) -> bool {
    let of = |is: fn(&u8) -> bool| word.iter().filter(|byte| is(byte)).count();
    let separators = of(|byte| b"-:/".contains(byte));
    let letters = of(u8::is_ascii_alphabetic);
    let others = of(|byte| b".,+".contains(byte));
    let digits = of(u8::is_ascii_digit);
    separators >= 2 && digits >= 4 && letters <= 4 && separators + letters + others + digits == word.len()
}

/// `10.0.0.1`, with a port or a prefix's length.
fn is_ipv4(word: &[u8]) -> bool {
    let mut rest = word;
    for part in 0..4 {
        if part > 0 {
            let Some(behind) = rest.strip_prefix(b".") else { return false };
            rest = behind;
        }
        let digits = digits(rest);
        if digits == 0 || digits > 3 {
            return false;
        }
        rest = &rest[digits..];
    }
    rest.is_empty() || b":/".contains(&rest[0]) && rest.len() > 1 && digits(&rest[1..]) == rest.len() - 1
}

/// An IPv6 or a MAC address; `18:00:00` is a time.
fn is_ipv6(word: &[u8]) -> bool {
    let word = word.split(|byte| *byte == b'%').next().unwrap_or_default();
    let colons = word.iter().filter(|byte| **byte == b':').count();
    let is_of_it = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let is_no_time = word.iter().any(u8::is_ascii_alphabetic) || word.windows(2).any(|two| two == b"::");
    colons >= 2 && word.iter().all(is_of_it) && is_no_time
}

fn is_uuid(word: &[u8]) -> bool {
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    word.len() == 36 && word.iter().enumerate().all(is_right)
}

fn is_hex(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_hexdigit)
}

/// Of a file or a URL; `and/or` and `3/10` are none.
fn is_path(word: &[u8]) -> bool {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let slashes = word.iter().filter(|byte| is_slash(byte)).count();
    let Some(first) = word.iter().position(is_slash) else { return false };
    let before = &word[..first];
    let is_root = matches!(before, b"" | b"." | b".." | b"~") || before.len() == 2 && before[1] == b':';
    is_root && word.len() > 1 || slashes >= 2 || word[first..].contains(&b'.')
}

const SPACE: u8 = 1;
const DELIMITER: u8 = 2;
const DIGIT: u8 = 4;
const SLASH: u8 = 8;
const AT: u8 = 16;

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// What each byte is; a letter and what is in words is nothing of it.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0..=b' ' | 0x7F => SPACE,
            b'=' | b',' | b';' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'"' | b'\'' | b'<' | b'>' | b'|' | b'`' => {
                DELIMITER
            }
            b'0'..=b'9' => DIGIT,
            b'/' | b'\\' => SLASH,
            b'@' => AT,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::datadriven;

    fn masked(line: &str) -> String {
        let mut out = Vec::new();
        mask(line, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_differs_is_masked() {
        datadriven::run("mask", |lines| lines.lines().map(|line| masked(line) + "\n").collect());
    }

    proptest! {
        #[test]
        fn any_line_has_a_short_pattern(line in "[a-f0-9./:@ ,=\"é\\-]{0,40}|\\PC{0,400}") {
            prop_assert!(masked(&line).len() <= PATTERN_BYTES_MAX);
        }

        /// However large a number is, the line's pattern is the same.
        #[test]
        fn numbers_make_no_difference(a in any::<u32>(), b in any::<u32>(), x in any::<f32>(), y in any::<f32>()) {
            prop_assume!(x.is_finite() && y.is_finite());
            let line = |n: u32, x: f32| masked(&format!("took {n}ms of {x} in order {n} at 10.0.{}.{}", n % 256, n / 7 % 256));
            prop_assert_eq!(line(a, x), line(b, y));
        }
    }
}
