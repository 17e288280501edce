//! Which patterns a group has seen, and which of their words vary.
//!
//! A pattern is known by its text. Patterns of one shape (as many words, the first the same) that agree in most of their words are
//! variants of one message: a place in which so many different words have stood as [`VARIANTS`] says is variable, and another word there
//! makes no new pattern. `user ann not found` and `user bob not found` are two patterns; from the third user on it is the message that is
//! known.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::NewPattern;
use super::exception::BETWEEN_FRAMES;
use crate::time::Timestamp;

/// Greatest number of patterns that a group of a `new_pattern` remembers. At the limit those not seen for `reappear_after` are forgotten;
/// where there are none, further patterns are told together, as `__overflow__`.
pub const PATTERNS_PER_GROUP_MAX: usize = 1000;

/// The same of all groups of a rule.
pub const PATTERNS_MAX: usize = 20_000;

/// A place is variable when so many different words have stood in it.
const VARIANTS: usize = 3;

/// Variants agree in so many tenths of their words.
const SIMILAR_TENTHS: usize = 6;

/// What has been seen in one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Miner {
    last: Timestamp,
    /// No pattern was last seen before.
    oldest: Timestamp,
    /// By the hash of the text.
    patterns: BTreeMap<u64, Pattern>,
    messages: BTreeMap<MessageKey, Message>,
    /// When patterns were new that are told each, as far as that counts against `max_new`.
    told: Vec<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pattern {
    news: News,
    last: Timestamp,
    message: Option<MessageKey>,
}

/// What a pattern was when it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    /// Nothing new: the group was learning.
    Learned,
    /// New at that time, and told by itself.
    Told(Timestamp),
    /// New at that time, and told together with others.
    Withheld(Timestamp),
}

/// The shape, and a number.
type MessageKey = (u32, u32);

/// What patterns are variants of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    /// The hashes of the words that have stood in each place; 0 is none.
    words: Vec<[u32; VARIANTS]>,
    last: Timestamp,
}

/// What a group makes of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is known, or learned.
    Before,
    /// It has been new since then.
    NewAt(Timestamp),
    /// It is new, and one more than are told each. It is said once: later it was seen before.
    OneMore,
    /// It is not known, and there is no room for it.
    NoRoom,
}

impl Miner {
    /// A group of which nothing is known.
    pub(crate) fn new() -> Self {
        let (patterns, messages) = (BTreeMap::new(), BTreeMap::new());
        Self { last: Timestamp::MIN, oldest: Timestamp::MIN, patterns, messages, told: Vec::new() }
    }

    /// Records of a pattern happened from `first` to `last`. What happens before `learns_until` is learned; there is room for so many patterns.
    pub(crate) fn observe(
        &mut self,
        text: &str,
        first: Timestamp,
        last: Timestamp,
        config: &NewPattern,
        learns_until: Timestamp,
        room: usize,
    ) -> Seen {
        self.last = self.last.max(last);
        let long_ago = first - config.reappear_after;
        let hash = xxh3_64(text.as_bytes());
        if let Some(pattern) = self.patterns.get_mut(&hash).filter(|pattern| pattern.last >= long_ago) {
            pattern.last = pattern.last.max(last);
            let Pattern { news, message, .. } = *pattern;
            self.touch(message, last);
            return if let News::Told(at) = news { Seen::NewAt(at) } else { Seen::Before };
        }
        let is_full = |miner: &Self| miner.len() >= room.min(PATTERNS_PER_GROUP_MAX);
        if is_full(self) {
            self.forget(long_ago);
            if is_full(self) {
                return if first < learns_until { Seen::Before } else { Seen::NoRoom };
            }
        }
        // The frames of an exception are no words that vary.
        let message = (!text.contains(BETWEEN_FRAMES)).then(|| self.join(text));
        let known = message.and_then(|(message, is_variant)| self.messages.get(&message).filter(|_| is_variant));
        if known.is_some_and(|message| message.last >= long_ago) {
            self.touch(message.map(|(message, _)| message), last);
            return Seen::Before;
        }
        let message = message.map(|(message, _)| message);
        self.touch(message, last);
        let news = if first < learns_until { News::Learned } else { self.tell(first, config) };
        self.patterns.insert(hash, Pattern { news, last, message });
        match news {
            News::Learned => Seen::Before,
            News::Told(at) => Seen::NewAt(at),
            News::Withheld(_) => Seen::OneMore,
        }
    }

    /// What was made of a pattern; `None` where it is a variant of a message that is known, or was forgotten.
    pub(crate) fn news(&self, text: &str) -> Option<News> {
        self.patterns.get(&xxh3_64(text.as_bytes())).map(|pattern| pattern.news)
    }

    /// A group that says something else each time would page without end.
    fn tell(&mut self, at: Timestamp, config: &NewPattern) -> News {
        self.told.retain(|told| *told + 2 * config.window > at);
        // One that comes late is held against those around it.
        let near = self.told.iter().filter(|told| at.since(**told).max(told.since(at)) < config.window);
        if near.count() >= config.max_new {
            return News::Withheld(at);
        }
        self.told.push(at);
        News::Told(at)
    }

    /// When a record last came.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// How many patterns it remembers.
    pub(crate) fn len(&self) -> usize {
        self.patterns.len().max(self.messages.len())
    }

    /// Nobody listened for so long: what was seen before is no older for that.
    pub(crate) fn handle_gap(&mut self, time: Duration) {
        let patterns = self.patterns.values_mut().map(|pattern| &mut pattern.last);
        let messages = self.messages.values_mut().map(|message| &mut message.last);
        let times = patterns.chain(messages).chain([&mut self.last, &mut self.oldest]);
        times.for_each(|at| *at = *at + time);
    }

    /// Forgets what was not seen since.
    pub(crate) fn forget(&mut self, before: Timestamp) {
        if before <= self.oldest {
            return; // a group that is full is asked at each record
        }
        self.patterns.retain(|_, pattern| pattern.last >= before);
        self.messages.retain(|_, message| message.last >= before);
        let last = self.patterns.values().map(|pattern| pattern.last);
        self.oldest = last.chain(self.messages.values().map(|message| message.last)).min().unwrap_or(before);
    }

    fn touch(&mut self, message: Option<MessageKey>, last: Timestamp) {
        if let Some(message) = message.and_then(|key| self.messages.get_mut(&key)) {
            message.last = message.last.max(last);
        }
    }

    /// The message that the text is most like, its words added to it; a new one where it is like none. Tells too whether it says nothing new.
    fn join(&mut self, text: &str) -> (MessageKey, bool) {
        let words: Vec<u32> = text.split(' ').map(word_hash).collect();
        let shape = word_hash(&format!("{} {}", words.len(), text.split(' ').next().unwrap_or_default()));
        let alike = self.messages.range((shape, 0)..=(shape, u32::MAX));
        let alike = alike.map(|(key, message)| (message.agreeing(&words), *key));
        // Of equals the first, so that it does not matter how many there are.
        let best = alike.reduce(|best, other| if other.0 > best.0 { other } else { best });
        if let Some((_, key)) = best.filter(|(agreeing, _)| agreeing * 10 >= words.len() * SIMILAR_TENTHS)
            && let Some(message) = self.messages.get_mut(&key)
        {
            return (key, message.add(&words));
        }
        let last = self.messages.range((shape, 0)..=(shape, u32::MAX)).next_back();
        let key = (shape, last.map_or(0, |((_, number), _)| number + 1));
        let words = words.into_iter().map(|word| [word, 0, 0]).collect();
        self.messages.insert(key, Message { words, last: Timestamp::MIN });
        (key, false)
    }
}

impl Message {
    /// In how many places one of its words is there, or any may be.
    fn agreeing(&self, words: &[u32]) -> usize {
        self.words.iter().zip(words).filter(|(known, word)| is_variable(known) || known.contains(word)).count()
    }

    /// Whether the words say nothing new: some place varies, and each other one has had its word before.
    fn add(&mut self, words: &[u32]) -> bool {
        let mut says_nothing_new = true;
        for (known, word) in self.words.iter_mut().zip(words) {
            let was_there = known.contains(word);
            if !was_there && let Some(free) = known.iter_mut().find(|known| **known == 0) {
                *free = *word;
            }
            says_nothing_new &= was_there || is_variable(known);
        }
        says_nothing_new && self.words.iter().any(is_variable)
    }
}

fn is_variable(known: &[u32; VARIANTS]) -> bool {
    !known.contains(&0)
}

/// Never 0.
fn word_hash(word: &str) -> u32 {
    (xxh3_64(word.as_bytes()) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LEARN: i64 = 10;
    const REAPPEAR: i64 = 20;

    fn config() -> NewPattern {
        let nanos = |nanos: i64| Duration::from_nanos(nanos as u64);
        let (learn, reappear_after) = (nanos(LEARN), nanos(REAPPEAR));
        NewPattern { by: Vec::new(), learn, reappear_after, window: Duration::from_nanos(1), max_new: usize::MAX }
    }

    fn observe(miner: &mut Miner, text: &str, at: i64) -> Seen {
        observe_learning(miner, text, at, 0)
    }

    fn observe_learning(miner: &mut Miner, text: &str, at: i64, until: i64) -> Seen {
        miner.observe(text, Timestamp(at), Timestamp(at), &config(), Timestamp(until), PATTERNS_MAX)
    }

    proptest! {
        /// What no word can vary in is known by its text alone: learned in the first time, new when it comes later, and again when it was
        /// not there for long.
        #[test]
        fn exact_patterns_are_those_of_a_list(steps in vec((0..15i64, 0..6u8), 1..60)) {
            let mut miner = Miner::new();
            let mut list: BTreeMap<u8, (i64, Seen)> = BTreeMap::new();
            let mut now = 0;
            for (step, which) in steps {
                now += step;
                let known = list.get(&which).filter(|(last, _)| now - last <= REAPPEAR).map(|(_, seen)| *seen);
                let new = if now < LEARN { Seen::Before } else { Seen::NewAt(Timestamp(now)) };
                let expected = known.unwrap_or(new);
                list.insert(which, (now, expected));
                let text = format!("T{BETWEEN_FRAMES}f{which}");
                prop_assert_eq!(observe_learning(&mut miner, &text, now, LEARN), expected);
            }
        }

        /// However many words stand in a place, two messages are told.
        #[test]
        fn a_place_that_varies_is_known_from_the_third_word_on(names in vec("[a-z]{1,8}", 1..30)) {
            let mut miner = Miner::new();
            let new = names.iter().map(|name| observe(&mut miner, &format!("user {name} was not found"), 0));
            let told = new.zip(&names).filter(|(seen, _)| matches!(seen, Seen::NewAt(_))).map(|(_, name)| name);
            let told: std::collections::BTreeSet<_> = told.collect();
            let different = names.iter().collect::<std::collections::BTreeSet<_>>().len();
            prop_assert_eq!(told.len(), different.min(VARIANTS - 1));
        }
    }

    #[test]
    fn messages_that_differ_are_patterns_of_their_own() {
        let mut miner = Miner::new();
        for text in [
            "payment refused by bank",
            "payment refused by fraud check",
            "disk full",
            "disk slow",
            "a b c d",
            "a x y d",
        ] {
            assert_eq!(observe(&mut miner, text, 5), Seen::NewAt(Timestamp(5)), "{text}");
            assert_eq!(observe(&mut miner, text, 6), Seen::NewAt(Timestamp(5)), "{text}");
        }
    }

    #[test]
    fn a_place_with_two_words_does_not_keep_another_from_varying() {
        let mut miner = Miner::new();
        let mut text = |name: &str, from: &str| observe(&mut miner, &format!("login of {name} from {from} failed"), 5);
        for (name, from) in [("ann", "web"), ("bob", "mobile")] {
            assert_eq!(text(name, from), Seen::NewAt(Timestamp(5)));
        }
        for (name, from) in [("carl", "web"), ("dora", "mobile"), ("emil", "web"), ("fritz", "tv"), ("gina", "car")] {
            assert_eq!(text(name, from), Seen::Before, "{name} {from}");
        }
    }

    #[test]
    fn a_variant_that_reappears_is_new_unless_its_place_varies() {
        let mut miner = Miner::new();
        let text = |by: &str| format!("payment refused by {by}");
        observe(&mut miner, &text("bank"), 0);
        observe(&mut miner, &text("customer"), 0);
        (0..10).for_each(|at| _ = observe(&mut miner, &text("bank"), at * 10));
        assert_eq!(observe(&mut miner, &text("customer"), 90), Seen::NewAt(Timestamp(90)));
        assert_eq!(observe(&mut miner, &text("shop"), 90), Seen::Before);
        (0..10).for_each(|at| _ = observe(&mut miner, &text("bank"), 90 + at * 10));
        assert_eq!(observe(&mut miner, &text("customer"), 180), Seen::Before);
    }

    #[test]
    fn of_many_in_a_window_some_are_told_each_and_no_other_is_told_twice() {
        let config = NewPattern { window: Duration::from_nanos(10), max_new: 2, ..config() };
        let mut miner = Miner::new();
        let mut at = |text: &str, at| {
            let text = format!("T{BETWEEN_FRAMES}{text}");
            miner.observe(&text, Timestamp(at), Timestamp(at), &config, Timestamp(0), PATTERNS_MAX)
        };
        assert_eq!(
            ["a", "b", "c", "d"].map(|text| at(text, 5)),
            [Seen::NewAt(Timestamp(5)), Seen::NewAt(Timestamp(5)), Seen::OneMore, Seen::OneMore]
        );
        assert_eq!([at("a", 6), at("c", 6)], [Seen::NewAt(Timestamp(5)), Seen::Before]);
        assert_eq!(at("e", 14), Seen::OneMore);
        assert_eq!(at("f", 15), Seen::NewAt(Timestamp(15)), "there is room again");
        assert_eq!([at("c", 16), at("e", 16)], [Seen::Before, Seen::Before]);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut miner = Miner::new();
        let text = |n: usize| format!("T{BETWEEN_FRAMES}f{n}");
        (0..PATTERNS_PER_GROUP_MAX).for_each(|n| _ = observe(&mut miner, &text(n), 0));
        assert_eq!(observe(&mut miner, &text(PATTERNS_PER_GROUP_MAX), REAPPEAR), Seen::NoRoom);
        let later = REAPPEAR + 1;
        assert_eq!(observe(&mut miner, &text(PATTERNS_PER_GROUP_MAX), later), Seen::NewAt(Timestamp(later)));
        assert_eq!(miner.len(), 1, "the others are forgotten");
    }
}
