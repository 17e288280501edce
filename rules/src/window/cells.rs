//! The cells of a window: packed while there are few, as in most groups, so that one takes some five bytes instead of sixteen.
//!
//! A packed cell is the time since the one before, and its weight where that is not 1. Each of the two numbers is a byte (three bits tell
//! how many bytes follow, 7 standing for 8; one whether a weight follows; four are the number's lowest), then the number's other bytes, the
//! lowest first. So up to 68 s take five bytes.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cell, evict};
use crate::time::Timestamp;

/// Up to so many cells are packed; more can be found by their times without being read all.
const PACKED_CELLS: usize = 32;

/// Cells sorted by time, no two of one time.
#[derive(Clone, Debug)]
pub(super) enum Cells {
    Packed(Packed),
    Many(VecDeque<Cell>),
}

/// Cells one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    /// Their number, and they; nothing where there are none.
    bytes: Box<[u8]>,
    first: Timestamp,
    last: Timestamp,
}

impl Cells {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len(),
            Self::Many(cells) => cells.len(),
        }
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        match self {
            Self::Packed(packed) => (packed.len() > 0).then_some(packed.last),
            Self::Many(cells) => cells.back().map(|cell| cell.at),
        }
    }

    /// All of them, to be looked through.
    pub(super) fn all(&self) -> Cow<'_, VecDeque<Cell>> {
        match self {
            Self::Packed(packed) => Cow::Owned(packed.iter().collect()),
            Self::Many(cells) => Cow::Borrowed(cells),
        }
    }

    /// Adds a cell at its place in time; two of one time become one.
    pub(super) fn insert(&mut self, cell: Cell) {
        match self {
            Self::Packed(packed) if packed.has_room_for(cell) => packed.push(cell),
            _ => self.edit(|cells| insert(cells, cell)),
        }
    }

    /// Forgets what happened at or before `until`.
    pub(super) fn evict(&mut self, until: Timestamp, forget: impl FnMut(&Cell)) {
        let first = match self {
            Self::Packed(packed) => (packed.len() > 0).then_some(packed.first),
            Self::Many(cells) => cells.front().map(|cell| cell.at),
        };
        if first.is_some_and(|first| first <= until) {
            self.edit(|cells| evict(cells, until, forget));
        }
    }

    /// Those that have become many stay so until half of them are gone.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut VecDeque<Cell>)) {
        match self {
            Self::Packed(packed) => {
                let mut cells = packed.iter().collect();
                edit(&mut cells);
                *self = cells.into();
            }
            Self::Many(cells) => {
                edit(cells);
                if cells.len() <= PACKED_CELLS / 2 {
                    *self = std::mem::take(cells).into();
                }
            }
        }
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self::Packed(Packed::default())
    }
}

impl From<VecDeque<Cell>> for Cells {
    fn from(cells: VecDeque<Cell>) -> Self {
        if cells.len() <= PACKED_CELLS { Self::Packed(Packed::new(&cells)) } else { Self::Many(cells) }
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl Serialize for Cells {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        VecDeque::deserialize(deserializer).map(Self::from)
    }
}

fn insert(cells: &mut VecDeque<Cell>, cell: Cell) {
    let at = match cells.back() {
        Some(last) if last.at >= cell.at => cells.partition_point(|other| other.at < cell.at),
        _ => cells.len(),
    };
    match cells.get_mut(at) {
        Some(other) if other.at == cell.at => other.weight += cell.weight,
        _ => cells.insert(at, cell),
    }
}

impl Packed {
    fn new(cells: &VecDeque<Cell>) -> Self {
        let Some((first, last)) = cells.front().zip(cells.back()) else { return Self::default() };
        let mut bytes = Vec::with_capacity(1 + cells.len() * WIDEST_CELL_BYTES);
        bytes.push(cells.len() as u8);
        let mut before = first.at;
        for cell in cells {
            put_cell(before, *cell, &mut bytes);
            before = cell.at;
        }
        Self { bytes: bytes.into(), first: first.at, last: last.at }
    }

    fn len(&self) -> usize {
        self.bytes.first().map_or(0, |len| usize::from(*len))
    }

    fn has_room_for(&self, cell: Cell) -> bool {
        self.len() == 0 || self.len() < PACKED_CELLS && self.last < cell.at
    }

    /// Adds a cell behind the others.
    fn push(&mut self, cell: Cell) {
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        if bytes.is_empty() {
            bytes.push(0);
            (self.first, self.last) = (cell.at, cell.at);
        }
        let mut new = Vec::with_capacity(WIDEST_CELL_BYTES);
        put_cell(self.last, cell, &mut new);
        bytes.reserve_exact(new.len());
        bytes.extend_from_slice(&new);
        bytes[0] += 1;
        self.bytes = bytes.into();
        self.last = cell.at;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Cell> {
        let (mut bytes, mut at) = (self.bytes.get(1..).unwrap_or_default(), self.first);
        (0..self.len()).map(move |_| {
            let (since, has_weight) = take(&mut bytes);
            at = Timestamp(at.0.wrapping_add_unsigned(since));
            Cell { at, weight: if has_weight { take(&mut bytes).0 } else { 1 } }
        })
    }
}

fn put_cell(before: Timestamp, cell: Cell, out: &mut Vec<u8>) {
    let since = cell.at.0.wrapping_sub(before.0).cast_unsigned();
    put(since, cell.weight != 1, out);
    if cell.weight != 1 {
        put(cell.weight, false, out);
    }
}

fn put(number: u64, flag: bool, out: &mut Vec<u8>) {
    let (high, low) = (number >> 4, number as u8 & 0xF);
    let len = match (u64::BITS - high.leading_zeros()).div_ceil(8) {
        7 => 8,
        len => len as usize,
    };
    out.push((len.min(7) as u8) << 5 | u8::from(flag) << 4 | low);
    out.extend_from_slice(&high.to_le_bytes()[..len]);
}

/// What [`put`] has put there: the number and the flag.
fn take(bytes: &mut &[u8]) -> (u64, bool) {
    let Some((first, rest)) = bytes.split_first() else { return (0, false) };
    let len = match first >> 5 {
        7 => 8,
        len => len as usize,
    };
    let (high, rest) = rest.split_at(len);
    *bytes = rest;
    let high = high.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (high << 4 | u64::from(first & 0xF), first & 0x10 != 0)
}

/// Two numbers of a byte and eight.
const WIDEST_CELL_BYTES: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_cells_are_what_was_packed(cells in prop::collection::btree_map(any::<i64>(), any::<u64>(), 0..2 * PACKED_CELLS)) {
            let cells: VecDeque<Cell> = cells.into_iter().map(|(at, weight)| Cell { at: Timestamp(at), weight }).collect();
            prop_assert_eq!(&Packed::new(&cells).iter().collect::<VecDeque<_>>(), &cells);
            let mut pushed = Cells::default();
            cells.iter().for_each(|cell| pushed.insert(*cell));
            prop_assert_eq!(&*pushed.all(), &cells);
            prop_assert_eq!((pushed.len(), pushed.last()), (cells.len(), cells.back().map(|cell| cell.at)));
        }

        #[test]
        fn numbers_of_any_length_are_read_as_written(number: u64, shift in 0..64u32, flag: bool) {
            let mut bytes = Vec::new();
            put(number >> shift, flag, &mut bytes);
            prop_assert!(bytes.len() <= WIDEST_CELL_BYTES / 2);
            prop_assert_eq!(take(&mut &*bytes), (number >> shift, flag));
        }
    }

    #[test]
    fn a_record_every_minute_takes_five_bytes() {
        let mut packed = Packed::default();
        (0..16).for_each(|n| packed.push(Cell { at: Timestamp(n * 60_000_000_000 + n), weight: 1 }));
        assert_eq!(packed.bytes.len(), 1 + 1 + 15 * 5);
    }
}
