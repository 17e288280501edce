//! The records of an input, piece by piece.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use watchbell_rules::backtest::records::Records;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::records::{Format, first_stamp, without_mark};
use watchbell_rules::time::Timestamp;

use crate::inputs::Input;

/// Reads an input from its beginning to its end.
pub(super) struct Pieces<'a> {
    input: &'a Input,
    reader: Box<dyn Read>,
    format: Format,
    /// What was read and is not in a piece yet.
    buffer: Vec<u8>,
    is_at_end: bool,
    /// How many bytes were read, and how many may be.
    len: u64,
    len_max: u64,
    /// Of JSON: lines before the buffer, and bytes of the line that it goes on in.
    before: (usize, usize),
}

impl<'a> Pieces<'a> {
    /// Opens it, and reads so many bytes at most; what is read of it where it lies is added to `read`.
    pub(super) fn open(input: &'a Input, len_max: u64, read: &Rc<Cell<u64>>) -> Result<Self, String> {
        let (reader, format) = (input.open(read)?, Format::Lines);
        let (buffer, is_at_end, len, before) = (Vec::new(), false, 0, (0, 0));
        let mut pieces = Self { input, reader, format, buffer, is_at_end, len, len_max, before };
        pieces.fill()?;
        pieces.buffer.drain(..pieces.buffer.len() - without_mark(&pieces.buffer).len());
        pieces.format = Format::detect(&pieces.buffer);
        Ok(pieces)
    }

    /// How many bytes were read so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The first time that a line bears, for which it is read as far as need be.
    pub(super) fn first_stamp(mut self) -> Result<Option<Timestamp>, String> {
        loop {
            let (end, is_last) = (self.lines_end(), self.is_at_end);
            let first = first_stamp(&String::from_utf8_lossy(&self.buffer[..end]));
            if first.is_some() || is_last {
                return Ok(first);
            }
            self.buffer.drain(..end);
            self.fill()?;
        }
    }

    /// The next records, at least one, as they stand there; lines belong to `stream`, and `last` is the time of the last of them.
    pub(super) fn next(&mut self, stream: &Labels, last: &mut Timestamp) -> Result<Option<Records>, String> {
        while !self.buffer.is_empty() || !self.is_at_end {
            let mut records = Records::default();
            let is_last = self.is_at_end;
            let taken = match self.format {
                Format::Lines => {
                    let end = self.lines_end();
                    records.read_lines(&String::from_utf8_lossy(&self.buffer[..end]), stream, last);
                    end
                }
                format => self.read_documents(format, &mut records)?,
            };
            self.buffer.drain(..if is_last { self.buffer.len() } else { taken });
            if !is_last {
                self.fill()?;
            }
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    fn read_documents(&mut self, format: Format, records: &mut Records) -> Result<usize, String> {
        let taken = records.read_documents(&self.buffer, format, !self.is_at_end, Timestamp(0));
        let (lines, bytes) = self.before;
        let taken = taken.map_err(|error| format!("{}: {}", self.input.name, error.behind(lines, bytes)))?;
        let piece = &self.buffer[..taken];
        let more = piece.iter().filter(|byte| **byte == b'\n').count();
        let last_line = piece.iter().rev().take_while(|byte| **byte != b'\n').count();
        self.before = (lines + more, last_line + if more == 0 { bytes } else { 0 });
        Ok(taken)
    }

    /// Where the last whole line of the buffer ends.
    fn lines_end(&self) -> usize {
        let end = || self.buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if self.is_at_end { self.buffer.len() } else { end() }
    }

    /// Reads on: a line or document that fills the buffer gets twice the room.
    fn fill(&mut self) -> Result<(), String> {
        if self.buffer.len() >= DOCUMENT_BYTES_MAX {
            let (name, what) = (&self.input.name, if self.format == Format::Lines { "line" } else { "JSON document" });
            let max = DOCUMENT_BYTES_MAX >> 20;
            return Err(format!("{name}: a {what} is longer than {max} MiB: write several, one behind another"));
        }
        let wanted = (self.buffer.len() * 2).clamp(PIECE_BYTES, DOCUMENT_BYTES_MAX) - self.buffer.len();
        let allowed = (wanted as u64).min(self.len_max - self.len);
        self.buffer.reserve(allowed as usize);
        let read = self.reader.by_ref().take(allowed).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| self.input.unreadable(&error))?;
        self.len += read as u64;
        self.is_at_end = read < wanted;
        Ok(())
    }
}

/// What is read at once, unless a line or document is longer; little in tests, so that there are many pieces.
const PIECE_BYTES: usize = if cfg!(test) { 64 } else { 512 << 10 };

/// A line or document that is longer is refused: it is held whole while it is read.
const DOCUMENT_BYTES_MAX: usize = 1 << 30;
