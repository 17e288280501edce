//! Prints values as Go's `fmt` does.

use std::fmt::Write;

use super::time_format;
use super::value::{List, ListKind, Map, MapKind, Value};

/// Text under a limit.
pub(super) struct Output {
    pub(super) text: String,
    bytes_max: usize,
}

impl Output {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max }
    }

    pub(super) fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.text.len())
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), String> {
        if text.len() > self.bytes_left() {
            return Err("the output is longer than `output_bytes_max` allows".into());
        }
        self.text.push_str(text);
        Ok(())
    }

    fn pad(&mut self, with: char, count: usize) -> Result<(), String> {
        if count > self.bytes_left() {
            return self.push(" ".repeat(self.bytes_left() + 1).as_str());
        }
        self.text.extend(std::iter::repeat_n(with, count));
        Ok(())
    }
}

/// `fmt.Sprint`: a space between two operands neither of which is a string.
pub(super) fn sprint(output: &mut Output, values: &[Value]) -> Result<(), String> {
    let is_string = |value: &Value| matches!(value, Value::Str(_) | Value::Html(_));
    for (i, value) in values.iter().enumerate() {
        if i > 0 && !is_string(value) && !is_string(&values[i - 1]) {
            output.push(" ")?;
        }
        Verb::plain('v').value(output, value)?;
    }
    Ok(())
}

/// `fmt.Sprintln`: a space between any two, a line feed at the end.
pub(super) fn sprintln(output: &mut Output, values: &[Value]) -> Result<(), String> {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            output.push(" ")?;
        }
        Verb::plain('v').value(output, value)?;
    }
    output.push("\n")
}

/// `fmt.Sprintf`.
pub(super) fn sprintf(output: &mut Output, format: &str, values: &[Value]) -> Result<(), String> {
    let mut scan = Scan { rest: format, values, next: 0, reordered: false, bad_index: false };
    while let Some(at) = scan.rest.find('%') {
        output.push(&scan.rest[..at])?;
        scan.rest = &scan.rest[at + 1..];
        scan.directive(output)?;
    }
    output.push(scan.rest)?;
    if !scan.reordered && scan.next < values.len() {
        output.push("%!(EXTRA ")?;
        for (i, value) in values[scan.next..].iter().enumerate() {
            output.push(if i > 0 { ", " } else { "" })?;
            typed(output, value)?;
        }
        output.push(")")?;
    }
    Ok(())
}

/// `int=5`, as Go shows an operand that does not fit; `<nil>` alone.
fn typed(output: &mut Output, value: &Value) -> Result<(), String> {
    output.push(value.type_name())?;
    if matches!(value, Value::Nil) {
        return Ok(());
    }
    output.push("=")?;
    Verb::plain('v').value(output, value)
}

struct Scan<'a> {
    rest: &'a str,
    values: &'a [Value],
    next: usize,
    reordered: bool,
    bad_index: bool,
}

impl Scan<'_> {
    fn directive(&mut self, output: &mut Output) -> Result<(), String> {
        self.bad_index = false;
        let mut verb = Verb::plain('v');
        self.flags(&mut verb);
        self.index();
        verb.width = self.number_or_star();
        if let Some(Err(())) = verb.width.map(Self::checked) {
            output.push("%!(BADWIDTH)")?;
            verb.width = None;
        }
        if let Some(width) = verb.width.filter(|width| *width < 0) {
            (verb.width, verb.minus, verb.zero) = (Some(-width), true, false);
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.index();
            let precision = self.number_or_star();
            if let Some(Err(())) = precision.map(Self::checked) {
                output.push("%!(BADPREC)")?;
            }
            verb.precision = Some(precision.unwrap_or(0)).filter(|p| Self::checked(*p).is_ok() && *p >= 0);
        }
        self.index();
        let Some(letter) = self.rest.chars().next() else {
            return output.push("%!(NOVERB)");
        };
        self.rest = &self.rest[letter.len_utf8()..];
        verb.letter = letter;
        match self.values.get(self.next) {
            _ if letter == '%' => output.push("%"),
            _ if self.bad_index => output.push(&format!("%!{letter}(BADINDEX)")),
            None => output.push(&format!("%!{letter}(MISSING)")),
            Some(value) => {
                self.next += 1;
                if letter == 'v' {
                    (verb.sharp_v, verb.plus_v) = (std::mem::take(&mut verb.sharp), std::mem::take(&mut verb.plus));
                }
                verb.value(output, value)
            }
        }
    }

    fn flags(&mut self, verb: &mut Verb) {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '+' => verb.plus = true,
                '-' => (verb.minus, verb.zero) = (true, false),
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                '0' => verb.zero = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
    }

    /// `[2]`: the next operand is the second.
    fn index(&mut self) {
        let Some(inside) = self.rest.strip_prefix('[') else { return };
        self.reordered = true;
        let Some((digits, rest)) = inside.split_once(']') else {
            self.bad_index = true;
            self.rest = inside;
            return;
        };
        self.rest = rest;
        match digits.parse::<usize>() {
            Ok(index) if index >= 1 && index <= self.values.len() => self.next = index - 1,
            _ => self.bad_index = true,
        }
    }

    /// Digits, or `*` for an operand; `i64::MAX` where that is bad.
    fn number_or_star(&mut self) -> Option<i64> {
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            let value = self.values.get(self.next);
            self.next += 1;
            return match value {
                Some(Value::Int(number) | Value::Int64(number)) => Some(*number),
                _ => Some(i64::MAX),
            };
        }
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        (length > 0).then(|| digits.parse().unwrap_or(i64::MAX))
    }

    fn checked(number: i64) -> Result<(), ()> {
        if number.unsigned_abs() <= 1_000_000 { Ok(()) } else { Err(()) }
    }
}

/// A letter with its flags.
#[derive(Clone, Default)]
struct Verb {
    letter: char,
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    plus_v: bool,
    sharp_v: bool,
    width: Option<i64>,
    precision: Option<i64>,
}

impl Verb {
    fn plain(letter: char) -> Self {
        Self { letter, ..Self::default() }
    }

    fn value(&self, output: &mut Output, value: &Value) -> Result<(), String> {
        match (self.letter, value) {
            ('T', _) => return self.padded(output, value.type_name()),
            ('v', Value::Nil) => return self.padded(output, "<nil>"),
            (letter, Value::Nil) => return output.push(&format!("%!{letter}(<nil>)")),
            _ => {}
        }
        if let Some(text) = self.stringer(value) {
            return self.string(output, &text, value);
        }
        match value {
            Value::Nil => Ok(()),
            Value::Bool(bool) if matches!(self.letter, 't' | 'v') => {
                self.padded(output, if *bool { "true" } else { "false" })
            }
            Value::Int(number) | Value::Int64(number) | Value::Duration(number) => self.int(output, *number, value),
            Value::Float(number) => self.float(output, *number, value),
            Value::Str(text) | Value::Html(text) => self.string(output, text, value),
            Value::List(list) => self.sequence(output, "[", list.items.iter(), "]"),
            Value::Map(map) => self.map(output, map),
            Value::Struct(fields) => self.structure(output, &fields.fields),
            Value::Bool(_) | Value::Time(..) => self.bad(output, value),
        }
    }

    /// What Go's `String()` method gives, for the verbs that ask for it.
    fn stringer(&self, value: &Value) -> Option<String> {
        if !matches!(self.letter, 'v' | 's' | 'q' | 'x' | 'X') || self.sharp_v {
            return None;
        }
        match value {
            Value::Duration(nanos) => Some(time_format::duration(*nanos)),
            Value::Time(time, zone) => Some(time_format::display(*time, zone)),
            Value::Map(map) if map.kind == MapKind::Kv => Some(kv_text(map)),
            Value::List(list) if list.kind == ListKind::Pairs => Some(pairs_text(list)),
            _ => None,
        }
    }

    /// `%!d(string=abc)`: the operand keeps the width and so on that it was to have; methods are not called.
    fn bad(&self, output: &mut Output, value: &Value) -> Result<(), String> {
        output.push(&format!("%!{}({}=", self.letter, value.type_name()))?;
        let plain = Self { letter: 'v', ..self.clone() };
        match value {
            Value::Duration(nanos) => plain.value(output, &Value::Int(*nanos))?,
            _ => plain.value(output, value)?,
        }
        output.push(")")
    }

    fn sequence<'v>(
        &self,
        output: &mut Output,
        open: &str,
        items: impl Iterator<Item = &'v Value>,
        close: &str,
    ) -> Result<(), String> {
        output.push(open)?;
        for (i, item) in items.enumerate() {
            output.push(if i > 0 { " " } else { "" })?;
            self.value(output, item)?;
        }
        output.push(close)
    }

    fn map(&self, output: &mut Output, map: &Map) -> Result<(), String> {
        output.push("map[")?;
        for (i, (key, item)) in map.entries.iter().enumerate() {
            output.push(if i > 0 { " " } else { "" })?;
            self.value(output, &Value::Str(key.clone()))?;
            output.push(":")?;
            self.value(output, item)?;
        }
        output.push("]")
    }

    fn structure(&self, output: &mut Output, fields: &[(&'static str, Value)]) -> Result<(), String> {
        output.push("{")?;
        for (i, (name, item)) in fields.iter().enumerate() {
            output.push(if i > 0 { " " } else { "" })?;
            if self.plus_v {
                output.push(name)?;
                output.push(":")?;
            }
            self.value(output, item)?;
        }
        output.push("}")
    }

    fn padded(&self, output: &mut Output, text: &str) -> Result<(), String> {
        let missing = (self.width.unwrap_or(0) as usize).saturating_sub(text.chars().count());
        match self.minus {
            true => output.push(text).and_then(|()| output.pad(' ', missing)),
            false => output.pad(if self.zero { '0' } else { ' ' }, missing).and_then(|()| output.push(text)),
        }
    }

    fn string(&self, output: &mut Output, text: &str, value: &Value) -> Result<(), String> {
        let short: &str = match self.precision {
            Some(runes) => &text[..text.char_indices().nth(runes as usize).map_or(text.len(), |(at, _)| at)],
            None => text,
        };
        match self.letter {
            'v' if self.sharp_v => self.padded(output, &quote(text, false)),
            'v' | 's' => self.padded(output, short),
            'q' if self.sharp && !short.contains(|c: char| c == '`' || c.is_control() && c != '\t') => {
                self.padded(output, &format!("`{short}`"))
            }
            'q' => self.padded(output, &quote(short, self.plus)),
            'x' | 'X' => {
                let bytes = &text.as_bytes()[..text.len().min(self.precision.map_or(usize::MAX, |p| p as usize))];
                self.padded(output, &self.hex(bytes))
            }
            _ => self.bad(output, value),
        }
    }

    fn hex(&self, bytes: &[u8]) -> String {
        let prefix = match (self.sharp, self.letter) {
            (true, 'X') => "0X",
            (true, _) => "0x",
            _ => "",
        };
        let mut text = String::from(if bytes.is_empty() { "" } else { prefix });
        for (i, byte) in bytes.iter().enumerate() {
            if self.space && i > 0 {
                let _ = write!(text, " {prefix}");
            }
            let _ = if self.letter == 'X' { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
        }
        text
    }

    fn int(&self, output: &mut Output, number: i64, value: &Value) -> Result<(), String> {
        let magnitude = number.unsigned_abs();
        let (prefix, digits) = match self.letter {
            'v' | 'd' => ("", magnitude.to_string()),
            'b' => (if self.sharp { "0b" } else { "" }, format!("{magnitude:b}")),
            'o' => (if self.sharp && number != 0 { "0" } else { "" }, format!("{magnitude:o}")),
            'O' => ("0o", format!("{magnitude:o}")),
            'x' => (if self.sharp { "0x" } else { "" }, format!("{magnitude:x}")),
            'X' => (if self.sharp { "0X" } else { "" }, format!("{magnitude:X}")),
            'c' => return self.padded(output, &to_char(number).to_string()),
            'q' => return self.padded(output, &quote_char(to_char(number), self.plus)),
            'U' => return self.padded(output, &format!("U+{:04X}", number as u64)),
            _ => return self.bad(output, value),
        };
        if self.precision == Some(0) && number == 0 {
            return output.pad(' ', self.width.unwrap_or(0) as usize);
        }
        let sign = self.sign(number < 0);
        let least = match self.precision {
            Some(least) => least as usize,
            None if self.zero && !self.minus => {
                (self.width.unwrap_or(0) as usize).saturating_sub(usize::from(!sign.is_empty()))
            }
            None => 0,
        };
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        Self { zero: false, ..self.clone() }.padded(output, &format!("{sign}{prefix}{zeros}{digits}"))
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn float(&self, output: &mut Output, number: f64, value: &Value) -> Result<(), String> {
        // No float has more digits than this, and Rust prints no more than 65,535.
        let precision = self.precision.map(|precision| (precision as usize).min(1100));
        let text = match self.letter {
            'v' | 'g' => general(number, precision),
            'G' => general(number, precision).to_uppercase(),
            'f' | 'F' => fixed(number, precision.unwrap_or(6)),
            'e' => exponent(number, precision.unwrap_or(6)),
            'E' => exponent(number, precision.unwrap_or(6)).to_uppercase(),
            _ => return self.bad(output, value),
        };
        let text = if number.is_finite() { text } else { non_finite(number).into() };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.as_str()),
        };
        let sign = if number == f64::INFINITY && !self.plus && !self.space { "+" } else { self.sign(negative) };
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        if self.zero && !self.minus && number.is_finite() {
            let width = (self.width.unwrap_or(0) as usize).saturating_sub(sign.len() + digits.len());
            output.push(sign)?;
            output.pad('0', width)?;
            return output.push(digits);
        }
        Self { zero: false, ..self.clone() }.padded(output, &format!("{sign}{digits}"))
    }
}

/// A float as Go's `%v` prints it.
pub(super) fn float_text(number: f64) -> String {
    if number.is_finite() { general(number, None) } else { non_finite(number).into() }
}

fn non_finite(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => "NaN",
    }
}

/// `%g`: as few digits as name the number, or `precision` significant ones without trailing zeros.
pub(super) fn general(number: f64, precision: Option<usize>) -> String {
    if !number.is_finite() {
        return non_finite(number).into();
    }
    let scientific = match precision {
        Some(precision) => format!("{number:.*e}", precision.max(1) - 1),
        None => format!("{number:e}"),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    // The exponent is shown from 1e+06 on where the digits are the fewest that name the number, else from the precision on.
    let bound = precision.map_or(6, |precision| {
        let precision = precision.max(1) as i32;
        if precision > digits && digits > exponent { digits } else { precision }
    });
    if exponent < -4 || exponent >= bound {
        return with_exponent(mantissa, exponent);
    }
    fixed(number_of(mantissa, exponent), (digits - 1 - exponent).max(0) as usize)
}

fn number_of(mantissa: &str, exponent: i32) -> f64 {
    format!("{mantissa}e{exponent}").parse().unwrap_or(0.0)
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => with_exponent(mantissa, exponent.parse().unwrap_or(0)),
        None => text,
    }
}

fn fixed(number: f64, precision: usize) -> String {
    format!("{number:.precision$}")
}

/// `a=b, c=d`, as Alertmanager prints labels.
fn kv_text(map: &Map) -> String {
    let pairs: Vec<String> =
        map.sorted_pairs().iter().map(|(name, value)| format!("{name}={}", plain_text(value))).collect();
    pairs.join(", ")
}

fn pairs_text(list: &List) -> String {
    let field = |item: &Value, name| match item {
        Value::Struct(pair) => pair.get(name).map(plain_text).unwrap_or_default(),
        _ => String::new(),
    };
    let pairs: Vec<String> =
        list.items.iter().map(|item| format!("{}={}", field(item, "Name"), field(item, "Value"))).collect();
    pairs.join(", ")
}

fn plain_text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        _ => String::new(),
    }
}

fn to_char(number: i64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn quote_char(c: char, ascii: bool) -> String {
    match c {
        '\'' => r"'\''".into(),
        '"' => "'\"'".into(),
        c => {
            let quoted = quote(&c.to_string(), ascii);
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// `strconv.Quote`.
pub(crate) fn quote(text: &str, ascii: bool) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => _ = write!(quoted, "\\x{:02x}", c as u32),
            c if is_printable(c) && (c.is_ascii() || !ascii) => quoted.push(c),
            c if (c as u32) < 0x10000 => _ = write!(quoted, "\\u{:04x}", c as u32),
            c => _ = write!(quoted, "\\U{:08x}", c as u32),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `strconv.IsPrint`, near enough: no controls, no white space but the blank.
pub(super) fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}'))
}
