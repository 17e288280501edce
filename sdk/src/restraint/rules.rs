//! `checkout=10/s,hyper=once/30s,debug:5%,adaptive`: what is held back of which targets.

use std::str::FromStr;

use tracing_core::Level;

use crate::levels::{is_above, parts, shown};

/// All that is held back, by target; of each kind the longest target that is the record's or above it decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    limits: Targets<Rate>,
    shares: Vec<(Level, Targets<Share>)>,
    once: Targets<u64>,
    is_adaptive: bool,
}

/// What is held back of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SiteRules {
    pub(crate) limit: Option<Rate>,
    pub(crate) share: Option<Share>,
    /// For how long a record is not told again, in nanoseconds.
    pub(crate) once: Option<u64>,
    /// At which part of the buffer, in hundredths, its records are held back.
    pub(crate) gives_way_at: Option<u8>,
}

/// So many records in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) records: u32,
    pub(crate) nanos: u64,
}

/// Which traces' records are let through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Share {
    /// Those whose number, of 63 bits, is below.
    Below(u64),
    /// Those of the traces that are sampled.
    Sampled,
}

/// What is set by target, longest first; the empty target is above all.
#[derive(Clone, Debug, PartialEq)]
struct Targets<T>(Vec<(Box<str>, T)>);

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Targets<T> {
    fn set(&mut self, target: &str, value: T) {
        self.0.retain(|(known, _)| **known != *target);
        self.0.push((target.into(), value));
        self.0.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
    }

    fn of(&self, target: &str) -> Option<T> {
        self.longest(target).map(|(_, value)| value)
    }

    /// How long the longest target above is, and what is set of it.
    fn longest(&self, target: &str) -> Option<(usize, T)> {
        let found = self.0.iter().find(|(above, _)| above.is_empty() || is_above(above, target));
        found.map(|(above, value)| (above.len(), *value))
    }
}

impl Rules {
    /// Reads those that are understood; `wrong` is told of the others.
    pub(crate) fn lenient(text: &str, mut wrong: impl FnMut(&str, String)) -> Self {
        let mut rules = Self::default();
        for part in parts(text) {
            if let Err((_, error)) = rules.add(part) {
                wrong(part, error);
            }
        }
        rules
    }

    /// Of this target only records of sampled traces are let through, whatever their level.
    #[cfg(feature = "config-file")]
    pub(crate) fn take_sampled(&mut self, target: &str) {
        self.set_share(Level::ERROR, target, Share::Sampled);
    }

    /// Of records of this level and of those below.
    fn set_share(&mut self, level: Level, target: &str, share: Share) {
        if !self.shares.iter().any(|(known, _)| *known == level) {
            self.shares.push((level, Targets::default()));
            self.shares.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        }
        self.shares.iter_mut().filter(|(known, _)| *known == level).for_each(|(_, shares)| shares.set(target, share));
    }

    /// The longest target decides; where it has shares for several levels, the nearest level that is the record's or above it.
    fn share(&self, target: &str, level: Level) -> Option<Share> {
        let of_level = self.shares.iter().filter(|(most_severe, _)| level >= *most_severe);
        let found = of_level.filter_map(|(_, shares)| shares.longest(target));
        // Of those with equally long targets `max_by_key` would take the last.
        found.reduce(|nearest, other| if other.0 > nearest.0 { other } else { nearest }).map(|(_, share)| share)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn of(&self, target: &str, level: Level) -> SiteRules {
        SiteRules {
            limit: self.limits.of(target),
            share: self.share(target, level),
            once: self.once.of(target),
            gives_way_at: self.is_adaptive.then(|| gives_way_at(level)).flatten(),
        }
    }

    /// The error is about the part of the text that it comes with.
    fn add<'t>(&mut self, part: &'t str) -> Result<(), (&'t str, String)> {
        let (target, what) = part.split_once('=').map_or(("", part), |(target, what)| (target.trim(), what.trim()));
        let wrong = |what| (what, format!("`{what}` holds nothing back; {WANTED}"));
        match what.split_once(':').unwrap_or(("info", what)) {
            (_, "adaptive") if target.is_empty() => self.is_adaptive = true,
            (level, "sampled") => self.set_share(named(level)?, target, Share::Sampled),
            (level, share) if share.ends_with('%') => {
                let share = below(share).ok_or_else(|| wrong(share))?;
                self.set_share(named(level)?, target, share);
            }
            _ => match what.strip_prefix("once/") {
                Some(time) => self.once.set(target, nanos(time).ok_or_else(|| wrong(what))?),
                None => self.limits.set(target, what.parse().map_err(|_| wrong(what))?),
            },
        }
        Ok(())
    }
}

const WANTED: &str = "write `10/s`, `once/30s`, `debug:5%`, `debug:sampled` or `adaptive`";

/// All of it has to be understood; the error shows what is not.
impl FromStr for Rules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for part in parts(text) {
            rules.add(part).map_err(|(wrong, error)| shown(text, wrong, &error))?;
        }
        Ok(rules)
    }
}

/// `10/s`, `100/m`, `5/30s`
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(records, time)| {
            let records = records.trim().parse().ok().filter(|records| *records > 0)?;
            Some(Self { records, nanos: nanos(time)? })
        });
        parsed.ok_or_else(|| format!("`{text}` is not a rate; write `10/s`, `100/m` or `5/30s`"))
    }
}

/// `s`, `30s`, `m`, `5m`, `h`
fn nanos(time: &str) -> Option<u64> {
    let time = time.trim();
    let digits = time.find(|c: char| !c.is_ascii_digit())?;
    let count = if digits == 0 { 1 } else { time[..digits].parse().ok().filter(|count| *count > 0)? };
    let unit = match &time[digits..] {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    };
    u64::checked_mul(count, unit)
}

/// As OpenTelemetry's sampler by trace id: of the same share both take the same traces.
fn below(share: &str) -> Option<Share> {
    let percent =
        share.strip_suffix('%')?.trim().parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
    Some(Share::Below((percent / 100.0 * (1u64 << 63) as f64) as u64))
}

fn named(level: &str) -> Result<Level, (&str, String)> {
    let wanted = "write `error`, `warn`, `info`, `debug` or `trace`";
    level.trim().parse().map_err(|_| (level, format!("`{level}` is not a level; {wanted}")))
}

/// ERROR is made as long as there is any room.
fn gives_way_at(level: Level) -> Option<u8> {
    match level {
        Level::TRACE | Level::DEBUG => Some(50),
        Level::INFO => Some(75),
        Level::WARN => Some(90),
        Level::ERROR => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_longest_target_decides_of_each_kind() {
        let rules: Rules =
            "100/m, checkout=10/s,checkout::db=once/30s,debug:5%,checkout=sampled,adaptive".parse().unwrap();
        let db = rules.of("checkout::db", Level::INFO);
        assert_eq!(db.limit, Some(Rate { records: 10, nanos: SECOND }));
        assert_eq!((db.once, db.share, db.gives_way_at), (Some(30 * SECOND), Some(Share::Sampled), Some(75)));
        assert_eq!(rules.of("checkout::db", Level::WARN).share, None);
        let other = rules.of("other", Level::DEBUG);
        assert_eq!(other.limit, Some(Rate { records: 100, nanos: 60 * SECOND }));
        assert_eq!(other.share, Some(Share::Below((0.05 * (1u64 << 63) as f64) as u64)));
        assert_eq!(rules.of("other", Level::INFO).share, None);
        assert_eq!(rules.of("other", Level::ERROR).gives_way_at, None);
        assert!(!rules.is_empty() && Rules::default().is_empty());
    }

    #[test]
    fn each_level_has_a_share_of_its_own() {
        let below = |percent: f64| Some(Share::Below((percent / 100.0 * (1u64 << 63) as f64) as u64));
        for text in ["debug:5%,info:50%,a=info:10%", "a=info:10%,info:50%,debug:5%"] {
            let rules: Rules = text.parse().unwrap();
            let share = |target, level| rules.of(target, level).share;
            assert_eq!([share("b", Level::WARN), share("b", Level::INFO)], [None, below(50.0)]);
            assert_eq!([share("b", Level::DEBUG), share("b", Level::TRACE)], [below(5.0), below(5.0)]);
            assert_eq!([share("a::c", Level::DEBUG), share("a::c", Level::INFO)], [below(10.0), below(10.0)]);
        }
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let error = |text: &str| text.parse::<Rules>().unwrap_err();
        let expected = format!("`ten/s` holds nothing back; {WANTED}\n    10/s,hyper=ten/s\n               ^^^^^");
        assert_eq!(error("10/s,hyper=ten/s"), expected);
        assert!(error("a=loud:5%").starts_with("`loud` is not a level"));
        for wrong in ["0/s", "10", "10/d", "101%", "once/", "a=adaptive", "once/0s", "10/99999999999999999999h", "-1/s"]
        {
            assert!(error(wrong).contains("holds nothing back"), "{wrong}");
        }
        let mut told = Vec::new();
        let rules = Rules::lenient("10/s,x=y", |part, _| told.push(part.to_owned()));
        assert_eq!((rules.of("x", Level::INFO).limit.is_some(), told), (true, vec!["x=y".to_owned()]));
    }
}
