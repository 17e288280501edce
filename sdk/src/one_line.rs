//! Text that comes from elsewhere, for a terminal.

use std::fmt::{self, Write};

/// Appends text with its control characters escaped, as Rust writes them (`\n`, `\u{1b}`): it can neither begin a line of its own nor move the cursor.
pub(crate) struct OneLine<'a>(pub(crate) &'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char.is_control() {
                true => self.0.extend(char.escape_default()),
                false => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut line = String::new();
        OneLine(&mut line).write_str("é 𝄞\n\r\t\0\x1b[2J\x7f\u{9b}").unwrap();
        assert_eq!(line, r"é 𝄞\n\r\t\u{0}\u{1b}[2J\u{7f}\u{9b}");
    }
}
