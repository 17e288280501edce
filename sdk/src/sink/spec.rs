//! Sinks in words, as they stand in the environment and in the file of `OTEL_CONFIG_FILE`: `file=/var/log/shop.jsonl levels=debug rotate_at=100MiB`.

use std::str::FromStr;
#[cfg(feature = "files")]
use std::time::Duration;

#[cfg(feature = "files")]
use super::file::{Compression, File, Rotation, Zone};
use super::{Format, Sink, is_address, wrong_address};
use crate::levels::{Directives, shown};
use crate::meant::meant;

/// Where to, then what else is set, with blanks between; a value with blanks is in double quotes.
///
/// | | |
/// |---|---|
/// | `stderr`, `stdout`, `file=PATH`, `syslog`, `syslog=SOCKET`, `syslog=udp://HOST:PORT`, `syslog=tcp://HOST:PORT`, `journald`, `journald=SOCKET` | where to |
/// | `levels=warn,checkout=debug` | [`Sink::levels`] |
/// | `format=compact` | `pretty`, `compact`, `json`, `ecs`, `gelf`, `logfmt`, `otlp-json`, or a pattern: `format="{time} {message}"` |
/// | `colors`, `colors=false` | [`Sink::colors`] |
/// | `name=audit` | [`Sink::name`] |
/// | `in_call` | [`Sink::in_call`] |
/// | `bytes_max=4MiB` | [`Sink::bytes_max`] |
/// | `rotate_at=100MiB` | of a file: when it is rotated |
/// | `rotate=hourly`, `rotate=daily`, `rotate=daily@03:30`, `rotate=monday`, `rotate=monday@04:30`, `rotate=6h` | the same |
/// | `zone=utc`, `zone=local`, `zone=Europe/Berlin` | whose days and hours these are; UTC's, if nothing is said |
/// | `keep_files=30`, `keep_age=90d`, `keep_bytes=10GiB` | of a file: what is kept of the rotated ones |
/// | `compress=gzip`, `compress=zstd`, `symlink`, `mode=640`, `heed_sighup` | of a file |
///
/// ```
/// use watchbell::sink::Sink;
///
/// let sink: Sink = r#"stderr levels=warn format="{level} {message}""#.parse()?;
/// let error = "stderr level=warn".parse::<Sink>().unwrap_err();
/// assert_eq!(error, "\
/// `level` is not known of a sink; did you mean `levels`?
///     stderr level=warn
///            ^^^^^");
/// # Ok::<(), String>(())
/// ```
impl FromStr for Sink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|Wrong(part, error)| shown(text, part, &error))
    }
}

/// The part of the text that is wrong, and why.
#[derive(Debug)]
struct Wrong<'t>(&'t str, String);

/// A word: `key=value`, or `key` alone.
#[derive(Clone, Copy)]
struct Word<'t> {
    key: &'t str,
    /// As it stands there, with its quotes.
    value: Option<&'t str>,
}

impl<'t> Word<'t> {
    fn of(word: &'t str) -> Self {
        match word.split_once('=') {
            Some((key, value)) => Self { key, value: Some(value) },
            None => Self { key: word, value: None },
        }
    }

    fn value(self) -> String {
        self.value.unwrap_or_default().replace('"', "")
    }

    /// Reads the value; what is wrong is the value, or the key that has none. Of an error that shows the value the first line is enough, since all of the sink is shown.
    fn read<T>(self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Wrong<'t>> {
        let wrong = self.value.filter(|value| !value.is_empty()).unwrap_or(self.key);
        parse(&self.value()).map_err(|error| Wrong(wrong, error.lines().next().unwrap_or_default().to_owned()))
    }

    /// A word that says all by being there.
    fn flag(self) -> Result<(), Wrong<'t>> {
        let told = |value| Wrong(value, format!("`{}` has no value; write `{}` alone", self.key, self.key));
        self.value.map_or(Ok(()), |value| Err(told(value)))
    }
}

fn parse(text: &str) -> Result<Sink, Wrong<'_>> {
    let words: Vec<_> = words(text, char::is_whitespace).into_iter().map(Word::of).collect();
    let Some((target, options)) = words.split_first() else {
        return Err(Wrong(text, format!("a sink is missing; {TARGETS}")));
    };
    let sink = match (target.key, target.value().as_str()) {
        ("stderr", "") => Sink::stderr(),
        ("stdout", "") => Sink::stdout(),
        #[cfg(feature = "files")]
        ("file", path) if !path.is_empty() => return of_file(File::new(path), options),
        #[cfg(not(feature = "files"))]
        ("file", _) => {
            return Err(Wrong(
                target.key,
                "this program is built without the feature `files` of `watchbell`".to_owned(),
            ));
        }
        ("syslog", place) => target.read(|_| syslog(place))?,
        #[cfg(unix)]
        ("journald", "") => Sink::journald(),
        #[cfg(unix)]
        ("journald", socket) => Sink::journald_at(socket),
        _ => return Err(Wrong(target.key, format!("`{}` is no sink; {TARGETS}", target.key))),
    };
    let has_format = matches!(target.key, "stderr" | "stdout");
    if let Some(odd) = options.iter().find(|word| !has_format && matches!(word.key, "format" | "colors")) {
        let error = format!("`{}` has a format of its own; leave `{}` out", target.key, odd.key);
        return Err(Wrong(odd.key, error));
    }
    options.iter().try_fold(sink, |sink, word| with(sink, *word, &[]))
}

const TARGETS: &str = "write `stderr`, `stdout`, `file=PATH`, `syslog`, `syslog=SOCKET`, `syslog=udp://HOST:PORT`, \
                       `syslog=tcp://HOST:PORT` or `journald`";

/// Those of a list, between which there are semicolons.
pub(crate) fn listed(text: &str) -> impl Iterator<Item = Result<Sink, String>> {
    let parts = words(text, |c| c == ';').into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::parse)
}

fn syslog(place: &str) -> Result<Sink, String> {
    let address = |address: &str, sink: fn(&str) -> Sink| match is_address(address) {
        true => Ok(sink(address)),
        false => Err(wrong_address(address)),
    };
    match place.split_once("://") {
        Some(("udp", host)) => address(host, Sink::syslog_udp),
        Some(("tcp", host)) => address(host, Sink::syslog_tcp),
        Some((other, _)) => Err(format!("`{other}` is not spoken; write `udp://HOST:PORT` or `tcp://HOST:PORT`")),
        #[cfg(unix)]
        None if place.is_empty() => Ok(Sink::syslog("/dev/log")),
        #[cfg(unix)]
        None => Ok(Sink::syslog(place)),
        #[cfg(not(unix))]
        None => Err("this machine has no syslog; write `udp://HOST:PORT` or `tcp://HOST:PORT`".to_owned()),
    }
}

/// An option that every sink has; `others` are those of its kind.
fn with<'t>(sink: Sink, word: Word<'t>, others: &[&str]) -> Result<Sink, Wrong<'t>> {
    Ok(match word.key {
        "levels" => {
            word.read(|levels| levels.parse::<Directives>())?;
            sink.levels(&word.value())
        }
        "format" => sink.format(word.read(format)?),
        "colors" => sink.colors(word.read(is_on)?),
        "name" => sink.name(&word.value()),
        "in_call" => {
            word.flag()?;
            sink.in_call()
        }
        "bytes_max" => sink.bytes_max(usize::try_from(word.read(bytes)?).unwrap_or(usize::MAX)),
        key => {
            let known = ["levels", "format", "colors", "name", "in_call", "bytes_max"].iter().chain(others);
            let longer = known.clone().copied().find(|known| known.starts_with(key));
            let meant = longer.or_else(|| meant(key, known.copied(), 2));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            return Err(Wrong(key, format!("`{key}` is not known of a sink{meant}")));
        }
    })
}

fn is_on(text: &str) -> Result<bool, String> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is not a boolean; write `true` or `false`")),
    }
}

fn format(name: &str) -> Result<Format, String> {
    Ok(match name {
        "pretty" => Format::Pretty,
        "compact" => Format::Compact,
        "json" => Format::Json,
        "ecs" => Format::Ecs,
        "gelf" => Format::Gelf,
        "logfmt" => Format::Logfmt,
        "otlp-json" => Format::OtlpJson,
        pattern if pattern.contains('{') => {
            let format = Format::Pattern(pattern.to_owned());
            format.check()?;
            format
        }
        _ => {
            let wanted =
                "write `pretty`, `compact`, `json`, `ecs`, `gelf`, `logfmt`, `otlp-json` or a pattern in quotes";
            return Err(format!("`{name}` is not a format; {wanted}"));
        }
    })
}

#[cfg(feature = "files")]
const FILE_OPTIONS: [&str; 10] = [
    "rotate_at",
    "rotate",
    "zone",
    "keep_files",
    "keep_age",
    "keep_bytes",
    "compress",
    "symlink",
    "mode",
    "heed_sighup",
];

#[cfg(feature = "files")]
fn of_file<'t>(mut file: File, options: &[Word<'t>]) -> Result<Sink, Wrong<'t>> {
    let (own, general): (Vec<Word<'_>>, Vec<Word<'_>>) =
        options.iter().copied().partition(|word| FILE_OPTIONS.contains(&word.key));
    let zone_word = own.iter().find(|word| word.key == "zone");
    let zone = zone_word.map_or(Ok(Zone::Utc), |word| word.read(zone))?;
    if let Some(word) = zone_word.filter(|_| !own.iter().any(|word| word.key == "rotate")) {
        let error = "`zone` says whose days a rotation goes by; write `rotate=daily`, too".to_owned();
        return Err(Wrong(word.key, error));
    }
    for word in own {
        file = match word.key {
            "rotate_at" => file.rotate_at_bytes(word.read(bytes)?),
            "rotate" => file.rotate(word.read(rotation)?, zone.clone()),
            "zone" => file,
            "keep_files" => file.keep_files(word.read(files)?),
            "keep_age" => file.keep_age(word.read(duration)?),
            "keep_bytes" => file.keep_bytes(word.read(bytes)?),
            "compress" => file.compress(word.read(compression)?),
            "mode" => file.mode(word.read(mode)?),
            "symlink" => {
                word.flag()?;
                file.symlink()
            }
            _ => {
                word.flag()?;
                file.heed_sighup()
            }
        };
    }
    general.into_iter().try_fold(Sink::file(file), |sink, word| with(sink, word, &FILE_OPTIONS))
}

#[cfg(feature = "files")]
fn zone(name: &str) -> Result<Zone, String> {
    let zone = match name {
        "utc" | "UTC" => Zone::Utc,
        "local" => Zone::Local,
        name => Zone::Named(name.to_owned()),
    };
    let known = zone.find().map(|_| zone);
    known.map_err(|error| format!("{error}; write `utc`, `local` or a name such as `Europe/Berlin`"))
}

#[cfg(feature = "files")]
fn files(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number of files"))
}

#[cfg(feature = "files")]
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("`{text}` is not the mode of a file; write `640`"))
}

#[cfg(feature = "files")]
fn rotation(text: &str) -> Result<Rotation, String> {
    let (day, time) = text.split_once('@').unwrap_or((text, "00:00"));
    let wrong = || format!("`{text}` is no rotation; write `hourly`, `daily`, `daily@03:30`, `monday@04:30` or `6h`");
    let weekday = WEEKDAYS.iter().zip(1..).find(|(name, _)| **name == day).map(|(_, weekday)| weekday);
    match (day, weekday) {
        ("daily", _) => {
            let (hour, minute) = clock(time).ok_or_else(wrong)?;
            Ok(Rotation::Daily { hour, minute })
        }
        (_, Some(weekday)) => {
            let (hour, minute) = clock(time).ok_or_else(wrong)?;
            Ok(Rotation::Weekly { weekday, hour, minute })
        }
        _ if text == "hourly" => Ok(Rotation::Hourly),
        _ => duration(text).map(Rotation::Every).map_err(|_| wrong()),
    }
}

#[cfg(feature = "files")]
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// `03:30`
#[cfg(feature = "files")]
fn clock(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

#[cfg(feature = "files")]
fn compression(name: &str) -> Result<Compression, String> {
    match name {
        "none" => Ok(Compression::None),
        #[cfg(feature = "gzip")]
        "gzip" => Ok(Compression::Gzip),
        #[cfg(feature = "zstd")]
        "zstd" => Ok(Compression::Zstd),
        _ => Err(format!("`{name}` is no compression that this program is built with; write `gzip`, `zstd` or `none`")),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0), ("", 0)];
    let parsed = units
        .into_iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(1 << shift));
    parsed.filter(|bytes| *bytes > 0).ok_or_else(|| format!("`{text}` is not a size; write `100MiB`"))
}

#[cfg(feature = "files")]
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];
    let parsed = units
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(seconds));
    parsed
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is not a time; write `90d`, `6h` or `30m`"))
}

/// The text's parts; within double quotes nothing is between parts.
fn words(text: &str, is_between: impl Fn(char) -> bool) -> Vec<&str> {
    let mut is_quoted = false;
    let words = text.split(|c| {
        is_quoted ^= c == '"';
        !is_quoted && is_between(c)
    });
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        let error = |text: &str| text.parse::<Sink>().unwrap_err();
        for (text, told) in [
            ("", "a sink is missing; write `stderr`"),
            ("stdin", "`stdin` is no sink; write `stderr`"),
            ("syslog format=json", "`syslog` has a format of its own"),
            ("stderr=2", "`stderr` is no sink"),
            ("file", "`file` is no sink"),
            ("stderr format=xml", "`xml` is not a format; write `pretty`"),
            ("stderr rotate=daily", "`rotate` is not known of a sink"),
            ("stderr colour", "`colour` is not known of a sink"),
            ("stderr color", "`color` is not known of a sink; did you mean `colors`?"),
            ("stderr bytes_max=much", "`much` is not a size; write `100MiB`"),
            ("stderr levels=info,a=loud", "`loud` is not a level"),
            ("stderr format={tme}", "`tme` is not known in a pattern; did you mean `time`?"),
            ("stderr fromat=json", "`fromat` is not known of a sink; did you mean `format`?"),
            ("file=x rotate_at=0", "`0` is not a size; write `100MiB`"),
            ("file=x rotate_at=99999999999GiB", "`99999999999GiB` is not a size"),
            ("file=x keep_age=90", "`90` is not a time"),
            ("file=x rotate=yearly", "`yearly` is no rotation"),
            ("file=x rotate=daily@24:00", "`daily@24:00` is no rotation; write `hourly`, `daily`, `daily@03:30`"),
            ("file=x rotate=hourly@01:00", "`hourly@01:00` is no rotation"),
            ("file=x rotate=someday", "`someday` is no rotation"),
            ("file=x zone=local", "`zone` says whose days a rotation goes by; write `rotate=daily`, too"),
            ("file=x rotate=daily zone=Europe/Atlantis", "the time zone `Europe/Atlantis` is not known"),
            ("file=x mode=999", "`999` is not the mode of a file; write `640`"),
            ("file=x mode", "`` is not the mode of a file"),
            ("file=x symlink=no", "`symlink` has no value; write `symlink` alone"),
            ("stderr in_call=false", "`in_call` has no value"),
            ("stderr colors=red", "`red` is not a boolean; write `true` or `false`"),
            ("syslog colors", "`syslog` has a format of its own; leave `colors` out"),
            ("syslog=udp://logs", "`logs` is no address; write `HOST:PORT`"),
            ("syslog=tls://logs:6514", "`tls` is not spoken; write `udp://HOST:PORT`"),
            ("file=x compress=rar", "`rar` is no compression"),
            ("file=x keep=3", "`keep` is not known of a sink; did you mean `keep_files`?"),
        ] {
            assert!(error(text).starts_with(told), "{text}: {}", error(text));
        }
    }

    #[test]
    fn where_it_is_wrong_is_shown() {
        let error = r#"file="/var/é a.log" levels=debug rotate=daily@25:00 in_call"#.parse::<Sink>().unwrap_err();
        let (_, place) = error.split_once('\n').unwrap();
        let expected = r#"    file="/var/é a.log" levels=debug rotate=daily@25:00 in_call
                                            ^^^^^^^^^^^"#;
        assert_eq!(place, expected);
    }

    #[test]
    #[cfg(feature = "files")]
    fn rotations() {
        for (text, expected) in [
            ("hourly", Rotation::Hourly),
            ("daily", Rotation::Daily { hour: 0, minute: 0 }),
            ("daily@3:05", Rotation::Daily { hour: 3, minute: 5 }),
            ("monday", Rotation::Weekly { weekday: 1, hour: 0, minute: 0 }),
            ("sunday@23:59", Rotation::Weekly { weekday: 7, hour: 23, minute: 59 }),
            ("90s", Rotation::Every(Duration::from_secs(90))),
        ] {
            assert_eq!(rotation(text), Ok(expected), "{text}");
        }
    }

    #[test]
    #[cfg(all(feature = "files", feature = "zstd"))]
    fn all_that_can_be_set() {
        let text = r#"file="/var/log/a b.log" levels=debug,hyper=off format=otlp-json colors name=audit in_call bytes_max=4MiB rotate_at=100MiB rotate=daily@03:30
            zone=Europe/Berlin keep_files=3 keep_age=90d keep_bytes=1GiB compress=zstd symlink mode=640 heed_sighup"#;
        let sinks: Vec<Sink> =
            listed(&format!("stderr ;{text};; stdout format=\"{{time}}; {{message}}\"")).map(Result::unwrap).collect();
        assert_eq!(sinks.len(), 3);
        let super::super::Target::File(file) = &sinks[1].target else { panic!("{:?}", sinks[1]) };
        let expected = File::new("/var/log/a b.log")
            .rotate_at_bytes(100 << 20)
            .rotate(Rotation::Daily { hour: 3, minute: 30 }, Zone::Named("Europe/Berlin".to_owned()))
            .keep_files(3)
            .keep_age(Duration::from_secs(90 * 24 * 3600))
            .keep_bytes(1 << 30)
            .compress(Compression::Zstd)
            .symlink()
            .mode(0o640)
            .heed_sighup();
        assert_eq!(format!("{file:?}"), format!("{expected:?}"));
        assert_eq!(
            (sinks[1].name.as_str(), sinks[1].levels.as_deref(), sinks[1].in_call, sinks[1].colors),
            ("audit", Some("debug,hyper=off"), true, Some(true))
        );
        assert_eq!((sinks[0].bytes_max, sinks[1].bytes_max), (16 << 20, 4 << 20));
        assert_eq!(sinks[2].format, Some(Format::Pattern("{time}; {message}".to_owned())));
    }
}
