//! What a process that was killed has left in its mapped file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use watchbell_proto::wire::{Fields, Value};

use super::{
    CHECKSUM_BYTES, HEADER_BYTES, MAGIC, RESOURCE, TABLE_HEAD_BYTES, UNIT_BYTES, UNIT_NUMBERS_BYTES, checksum, layout,
    table_at,
};
use crate::callsite::ScopeId;
use crate::chunk::{Chunk, ENTRY_HEAD_BYTES, read_entry_head};
use crate::config::Signal;

/// Bytes of runs (1 MiB) that are read at a time, if a single one is not longer.
const READ_BYTES: usize = 1024 * 1024;

/// The file, with all that counts in it.
pub(crate) struct Left {
    file: File,
    /// The content of a `ResourceLogs` with the resource alone.
    pub(crate) resource: Vec<u8>,
    /// By the numbers that the killed process had for them.
    scopes: HashMap<u16, ScopeId>,
    /// The next one is the last.
    runs: Vec<LeftRun>,
    /// Bytes of what is not whole.
    pub(crate) torn_bytes: u64,
}

/// By signal, and in the order they were begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LeftRun {
    signal: usize,
    order: u64,
    at: u64,
    bytes: usize,
}

impl Left {
    /// Reads all but the records; a file that was not wholly begun has none.
    pub(crate) fn read(mut file: File) -> io::Result<Self> {
        let mut left = Self {
            resource: Vec::new(),
            scopes: HashMap::new(),
            runs: Vec::new(),
            torn_bytes: 0,
            file: file.try_clone()?,
        };
        let len = file.seek(SeekFrom::End(0))?;
        let header = read_at(&mut file, 0, 16.min(len) as usize)?;
        if header.len() < 16 || header[..8] != *MAGIC {
            return Ok(left);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file's header is damaged");
        let units = usize::try_from(number(&header, 8)).map_err(|_| damaged())?;
        let is_there = units.checked_mul(UNIT_BYTES).is_some_and(|bytes| bytes as u64 <= len);
        let layout = Some(units).filter(|_| is_there).map(layout).filter(|layout| table_at(*layout) <= len);
        let layout = layout.ok_or_else(damaged)?;
        left.read_table(&read_at(&mut file, table_at(layout), (len - table_at(layout)) as usize)?);
        let numbers = read_at(&mut file, HEADER_BYTES as u64, units * UNIT_NUMBERS_BYTES)?;
        for (unit, numbers) in numbers.chunks_exact(UNIT_NUMBERS_BYTES).enumerate() {
            let (order, bytes) = (number(numbers, 0), number(numbers, 8));
            let at = (layout.units_at + unit * UNIT_BYTES) as u64;
            if bytes > 0 && at.checked_add(bytes).is_some_and(|end| end <= table_at(layout)) {
                left.runs.push(LeftRun { signal: (order & 3) as usize, order, at, bytes: bytes as usize });
            }
        }
        left.runs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(left)
    }

    /// The first entry that is not whole is the last: a process was killed over it, so that no record needs it.
    fn read_table(&mut self, mut table: &[u8]) {
        while let Some((head, rest)) = table.split_first_chunk::<TABLE_HEAD_BYTES>() {
            let half = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let Some((content, rest)) = rest.split_at_checked(half(4) as usize) else { return };
            if crc32fast::hash(content) != half(8) {
                return;
            }
            match u16::from_le_bytes([head[0], head[1]]) {
                RESOURCE => self.resource = content.to_owned(),
                number => drop(self.scopes.insert(number, scope(content))),
            }
            table = rest;
        }
    }

    /// The next records, of one signal and in the order they were made.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<(Signal, Chunk)>> {
        let Some(first) = self.runs.last().copied() else { return Ok(None) };
        let mut runs = Vec::new();
        let mut bytes = 0;
        while let Some(run) =
            self.runs.pop_if(|run| run.signal == first.signal && (bytes == 0 || bytes + run.bytes <= READ_BYTES))
        {
            bytes += run.bytes;
            runs.push((run.order, read_at(&mut self.file, run.at, run.bytes)?));
        }
        let mut chunk = Chunk::with_capacity(bytes);
        runs.iter().for_each(|(order, run)| self.take_entries(*order, run, &mut chunk));
        let signal = if first.signal == Signal::Traces as usize { Signal::Traces } else { Signal::Logs };
        Ok(Some((signal, chunk)))
    }

    /// Takes a run's records up to the first that is not whole.
    fn take_entries(&mut self, order: u64, mut run: &[u8], chunk: &mut Chunk) {
        while let Some((head, rest)) = run.split_first_chunk::<ENTRY_HEAD_BYTES>()
            && let Some((expected, rest)) = rest.split_first_chunk::<CHECKSUM_BYTES>()
        {
            let (scope, records, len) = read_entry_head(head);
            let record = rest.get(..len).filter(|record| checksum(order, head, record) == *expected);
            let Some((record, scope)) = record.zip(self.scopes.get(&scope.to_u16())) else { break };
            chunk.push(*scope, records, record);
            run = &rest[len..];
        }
        self.torn_bytes += run.len() as u64;
    }
}

fn scope(content: &[u8]) -> ScopeId {
    let (mut scope, mut schema_url) = (&[][..], Cow::default());
    for field in Fields::new(content) {
        match field {
            (1, Value::Bytes(message)) => scope = message,
            (3, Value::Bytes(url)) => schema_url = String::from_utf8_lossy(url),
            _ => {}
        }
    }
    ScopeId::of(scope, &schema_url)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn read_at(file: &mut File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
