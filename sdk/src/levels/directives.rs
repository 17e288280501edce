//! `info,checkout=debug,hyper=off`: a default and levels of targets.

use std::fmt;
use std::str::FromStr;

use tracing_core::{Level, LevelFilter};

use crate::meant::meant;
use crate::stock::is_stock;

/// Levels by target; the longest target that is the record's or above it decides. The default is not for what OpenTelemetry's crates say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directives {
    default: LevelFilter,
    /// Longest first.
    targets: Vec<(Box<str>, LevelFilter)>,
}

impl Directives {
    /// The same level for all.
    pub(crate) fn all(level: LevelFilter) -> Self {
        Self { default: level, targets: Vec::new() }
    }

    pub(crate) fn allow(&self, target: &str, level: Level) -> bool {
        level <= self.level_of(target)
    }

    fn level_of(&self, target: &str) -> LevelFilter {
        let found = self.targets.iter().find(|(above, _)| is_above(above, target));
        match found {
            Some((_, level)) => *level,
            None if is_stock(target) => LevelFilter::OFF,
            None => self.default,
        }
    }

    /// Whether one is for this target, or for one above it.
    pub(crate) fn name(&self, target: &str) -> bool {
        self.targets.iter().any(|(above, _)| is_above(above, target))
    }

    pub(crate) fn most_verbose(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.default, LevelFilter::max)
    }

    /// Makes all levels but `off` one step more verbose.
    pub(crate) fn raise(&mut self) {
        let levels = std::iter::once(&mut self.default).chain(self.targets.iter_mut().map(|(_, level)| level));
        for level in levels {
            *level = match *level {
                LevelFilter::OFF => LevelFilter::OFF,
                LevelFilter::ERROR => LevelFilter::WARN,
                LevelFilter::WARN => LevelFilter::INFO,
                LevelFilter::INFO => LevelFilter::DEBUG,
                _ => LevelFilter::TRACE,
            };
        }
    }

    /// Sets a target's level.
    pub(crate) fn set(&mut self, target: &str, level: LevelFilter) {
        match self.targets.iter_mut().find(|(known, _)| **known == *target) {
            Some((_, known)) => *known = level,
            None => {
                self.targets.push((target.into(), level));
                self.targets.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            }
        }
    }

    /// Reads those that are understood; `wrong` is told of the others.
    pub(crate) fn lenient(text: &str, mut wrong: impl FnMut(&str, String)) -> Self {
        let mut directives = Self::all(LevelFilter::OFF);
        let mut count = 0;
        for part in parts(text) {
            match directives.add(part) {
                Ok(()) => count += 1,
                Err((_, error)) => wrong(part, error),
            }
        }
        if count == 0 { Self::all(LevelFilter::INFO) } else { directives }
    }

    /// The first target of a text that looks like a misspelt level, and that level: `inof` is a target, of which all is wanted, and nothing of any other.
    pub(crate) fn doubtful(text: &str) -> Option<(&str, &'static str)> {
        parts(text).find_map(|part| {
            let is_level_or_pair = part.contains('=') || named(part).is_some();
            let meant = || meant(&part.to_ascii_lowercase(), ["off", "error", "warn", "info", "debug", "trace"], 1);
            Some((part, if is_level_or_pair { None } else { meant() }?))
        })
    }

    /// Adds `level`, `target=level`, or `target` and `target=`, which are all of it; the error is about the part that it comes with.
    fn add<'t>(&mut self, part: &'t str) -> Result<(), (&'t str, String)> {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (target.trim(), level.trim()),
            None => match named(part) {
                Some(level) => {
                    self.default = level;
                    return Ok(());
                }
                None => (part, "trace"),
            },
        };
        let level = if level.is_empty() { "trace" } else { level }; // as in `env_logger`
        if let Some(odd) = target.find(['[', '{', '/', '"', ' ', ';']) {
            return Err((&target[odd..], format!("`{target}` is not a target; what is chosen by is the target alone")));
        }
        let wanted = "write `off`, `error`, `warn`, `info`, `debug` or `trace`";
        let named = named(level).ok_or_else(|| (level, format!("`{level}` is not a level; {wanted}")))?;
        self.set(target, named);
        Ok(())
    }
}

/// What commas separate.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn named(name: &str) -> Option<LevelFilter> {
    name.parse().ok().or_else(|| name.eq_ignore_ascii_case("warning").then_some(LevelFilter::WARN))
}

/// Whether a target is the other or above it in the tree.
pub(crate) fn is_above(above: &str, target: &str) -> bool {
    target.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('.'))
}

/// All of it has to be understood; the error shows what is not.
impl FromStr for Directives {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut directives = Self::all(LevelFilter::OFF);
        if parts(text).next().is_none() {
            return Ok(Self::all(LevelFilter::INFO));
        }
        for part in parts(text) {
            directives.add(part).map_err(|(wrong, error)| shown(text, wrong, &error))?;
        }
        Ok(directives)
    }
}

/// The error, the text, and carets under the part of it that is wrong.
pub(crate) fn shown(text: &str, wrong: &str, error: &str) -> String {
    let start = (wrong.as_ptr().addr() - text.as_ptr().addr()).min(text.len());
    let (indent, carets) = (text[..start].chars().count(), wrong.chars().count().max(1));
    format!("{error}\n    {text}\n    {}{}", " ".repeat(indent), "^".repeat(carets))
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort();
        targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level(directives: &str, target: &str) -> LevelFilter {
        directives.parse::<Directives>().unwrap().level_of(target)
    }

    #[test]
    fn a_target_is_above_what_is_below_it() {
        for (directives, target, expected) in [
            ("", "any", "info"),
            ("warn", "any", "warn"),
            ("checkout=debug", "checkout", "debug"),
            ("checkout=debug", "any", "off"),
            ("info,checkout=debug", "checkout::db", "debug"),
            ("info,checkout=debug", "checkout.db", "debug"),
            ("info,checkout=debug", "checkouts", "info"),
            ("info,checkout=debug,checkout::db=off", "checkout::db::pool", "off"),
            ("info,checkout::db=off,checkout=debug", "checkout::web", "debug"),
            ("checkout", "checkout", "trace"),
            (" ERROR , a = Warning ,, ", "a", "warn"),
            ("a=1,2", "b", "warn"),
            ("trace", "opentelemetry_sdk", "off"),
            ("trace", "opentelemetry-otlp", "off"),
            ("trace", "tracing_opentelemetry::layer", "off"),
            ("trace", "opentelemetry_demo", "trace"),
            ("off,opentelemetry=debug", "opentelemetry", "debug"),
            ("info,opentelemetry=debug", "opentelemetry_sdk", "off"),
        ] {
            assert_eq!(level(directives, target).to_string(), expected, "{directives} {target}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let error = "info,a[x]=debug".parse::<Directives>().unwrap_err();
        let expected =
            "`a[x]` is not a target; what is chosen by is the target alone\n    info,a[x]=debug\n          ^^^";
        assert_eq!(error, expected);
        assert_eq!("off,a=".parse::<Directives>().unwrap().to_string(), "off,a=trace");
        assert!("info;a=debug".parse::<Directives>().is_err());
        assert_eq!(Directives::doubtful("checkout,inof"), Some(("inof", "info")));
        assert_eq!(Directives::doubtful("checkout,inof=debug,warning,INFO"), None);
        let mut wrong = Vec::new();
        let directives = Directives::lenient("debug,a=loud,b=warn", |part, _| wrong.push(part.to_owned()));
        assert_eq!((directives.to_string(), wrong), ("debug,b=warn".to_owned(), vec!["a=loud".to_owned()]));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(targets in prop::collection::vec(("[a-c]{1,2}(::[a-c]){0,2}", 0..6u8), 0..6), default in 0..6u8) {
            let mut directives: Directives = default.to_string().parse().unwrap();
            targets.iter().for_each(|(target, level)| directives.set(target, level.to_string().parse().unwrap()));
            prop_assert_eq!(directives.to_string().parse::<Directives>().unwrap(), directives);
        }

        #[test]
        fn the_longest_target_decides(targets in prop::collection::vec(("[ab](::[ab]){0,2}", 0..6u8), 0..6), target in "[ab](::[ab]){0,3}") {
            let mut directives = Directives::all(LevelFilter::OFF);
            targets.iter().for_each(|(target, level)| directives.set(target, level.to_string().parse().unwrap()));
            let segments: Vec<_> = target.split("::").collect();
            let expected = (1..=segments.len()).rev().find_map(|n| {
                let above = segments[..n].join("::");
                targets.iter().rev().find(|(target, _)| *target == above).map(|(_, level)| level.to_string().parse().unwrap())
            });
            prop_assert_eq!(directives.level_of(&target), expected.unwrap_or(LevelFilter::OFF));
        }
    }
}
