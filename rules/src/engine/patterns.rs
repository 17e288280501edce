//! What the groups of a leaf have seen, for those of which new patterns are told.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::groups::OVERFLOW;
use crate::detect::miner::{Miner, News, Seen};
use crate::detect::{MORE, NewPattern, PATTERNS_MAX};
use crate::matcher::Run;
use crate::plan::KEY_SEPARATOR;
use crate::time::Timestamp;

/// The groups without their patterns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Patterns {
    groups: BTreeMap<Box<[u8]>, Miner>,
    /// How many they remember together.
    len: usize,
    /// No group was last heard of before.
    oldest: Timestamp,
    /// When there was last no room for one.
    pub(super) refused_at: Timestamp,
    /// How many new ones were told together with others, for `max_new`.
    pub(super) withheld: u64,
}

/// What is to be counted of a pattern.
pub(super) struct Counted {
    /// The group that counts it.
    pub(super) key: Box<[u8]>,
    /// Its records in these times.
    pub(super) times: Range<Timestamp>,
    /// They count as one: it is patterns that are counted.
    pub(super) as_one: bool,
}

impl Default for Patterns {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), len: 0, oldest: Timestamp::MIN, refused_at: Timestamp::MIN, withheld: 0 }
    }
}

impl Patterns {
    /// Takes note of a pattern's records; yields what is to be counted, if it is new.
    pub(super) fn observe(
        &mut self,
        run: &Run,
        config: &NewPattern,
        learns_until: Timestamp,
        groups_max: usize,
        now: Timestamp,
    ) -> Option<Counted> {
        let (group, text) = parts(&run.key);
        let (first, last) = (run.earliest(), run.times().last()?);
        if !self.groups.contains_key(group) {
            if self.groups.len() >= groups_max {
                self.forget_groups(first - config.reappear_after);
            }
            if self.groups.len() >= groups_max {
                self.refused_at = now;
                return None;
            }
            self.groups.insert(group.into(), Miner::new());
        }
        let miner = self.groups.get_mut(group)?;
        let before = miner.len();
        let room = before + PATTERNS_MAX.saturating_sub(self.len);
        let seen = miner.observe(&String::from_utf8_lossy(text), first, last, config, learns_until, room);
        self.len = self.len + miner.len() - before;
        let together = |text: &str| -> Box<[u8]> { [group, text.as_bytes(), &[KEY_SEPARATOR; 2]].concat().into() };
        Some(match seen {
            Seen::Before => return None,
            Seen::NewAt(at) => {
                Counted { key: run.key.clone(), times: Timestamp::MIN..at + config.window, as_one: false }
            }
            Seen::OneMore => {
                self.withheld += 1;
                Counted { key: together(MORE), times: Timestamp::MIN..Timestamp::MAX, as_one: true }
            }
            Seen::NoRoom => {
                self.refused_at = now;
                Counted { key: together(OVERFLOW), times: Timestamp::MIN..Timestamp::MAX, as_one: false }
            }
        })
    }

    /// What was made of the pattern of a run; `None` where it is a variant of a message that is known, or was forgotten.
    pub(super) fn news(&self, key: &[u8]) -> Option<News> {
        let (group, text) = parts(key);
        self.groups.get(group)?.news(&String::from_utf8_lossy(text))
    }

    /// Forgets groups that were not heard of since.
    fn forget_groups(&mut self, before: Timestamp) {
        if before <= self.oldest {
            return; // where there are too many it is asked at each record
        }
        self.groups.retain(|_, miner| miner.last() >= before);
        self.oldest = self.groups.values().map(Miner::last).min().unwrap_or(before);
        self.len = self.groups.values().map(Miner::len).sum();
    }

    /// Nobody listened for so long: it does not make anything old.
    pub(super) fn handle_gap(&mut self, time: Duration) {
        self.groups.values_mut().for_each(|miner| miner.handle_gap(time));
        self.oldest = self.oldest + time;
    }

    /// How many patterns all groups remember.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the patterns that would be new again. The groups stay while there is room: they have learned what they had to.
    pub(super) fn forget(&mut self, config: &NewPattern, now: Timestamp) {
        self.groups.values_mut().for_each(|miner| miner.forget(now - config.reappear_after));
        self.len = self.groups.values().map(Miner::len).sum();
    }
}

/// A group's key, and the text of the pattern that stands behind it.
fn parts(key: &[u8]) -> (&[u8], &[u8]) {
    let text = key.strip_suffix(&[KEY_SEPARATOR]).unwrap_or(key);
    let start = text.iter().rposition(|byte| *byte == KEY_SEPARATOR).map_or(0, |at| at + 1);
    (&key[..start], &text[start..])
}
