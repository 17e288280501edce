//! Sinks in words, as they stand in the environment and in the file of `OTEL_CONFIG_FILE`: `file=/var/log/shop.jsonl levels=debug rotate_at=100MiB`.

use std::str::FromStr;
#[cfg(feature = "files")]
use std::time::Duration;

#[cfg(feature = "files")]
use super::file::{Compression, File, Rotation, Zone};
use super::{Format, Sink};

/// Where to, then what else is set, with blanks between; a value with blanks is in double quotes.
///
/// | | |
/// |---|---|
/// | `stderr`, `stdout`, `file=PATH`, `syslog`, `syslog=SOCKET`, `journald` | where to |
/// | `levels=warn,checkout=debug` | [`Sink::levels`] |
/// | `format=compact` | `pretty`, `compact`, `json`, `ecs`, `gelf`, `logfmt`, `otlp-json`, or a pattern: `format="{time} {message}"` |
/// | `name=audit` | [`Sink::name`] |
/// | `in_call` | [`Sink::in_call`] |
/// | `rotate_at=100MiB`, `rotate=hourly`, `rotate=daily`, `rotate=6h` | of a file: when it is rotated; days are those of UTC |
/// | `keep_files=30`, `keep_age=90d`, `keep_bytes=10GiB` | of a file: what is kept of the rotated ones |
/// | `compress=gzip`, `compress=zstd`, `symlink`, `heed_sighup` | of a file |
///
/// ```
/// use watchbell::sink::Sink;
///
/// let sink: Sink = r#"stderr levels=warn format="{level} {message}""#.parse()?;
/// let error = "stderr level=warn".parse::<Sink>().unwrap_err();
/// assert_eq!(error, "`level` is not known of a sink; did you mean `levels`?");
/// # Ok::<(), String>(())
/// ```
impl FromStr for Sink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = words(text, char::is_whitespace);
        let mut words = words.iter().map(|word| word.split_once('=').unwrap_or((word, "")));
        let (kind, place) = words.next().ok_or_else(|| format!("a sink is missing; {TARGETS}"))?;
        let options: Vec<_> = words.map(|(key, value)| (key, unquoted(value))).collect();
        let place = unquoted(place);
        let sink = match (kind, place.as_str()) {
            ("stderr", "") => Self::stderr(),
            ("stdout", "") => Self::stdout(),
            #[cfg(feature = "files")]
            ("file", path) if !path.is_empty() => return of_file(File::new(path), &options),
            #[cfg(not(feature = "files"))]
            ("file", _) => return Err("this program is built without the feature `files` of `watchbell`".to_owned()),
            #[cfg(unix)]
            ("syslog", "") => Self::syslog("/dev/log"),
            #[cfg(unix)]
            ("syslog", socket) => Self::syslog(socket),
            #[cfg(unix)]
            ("journald", "") => Self::journald(),
            _ => return Err(format!("`{kind}` is no sink; {TARGETS}")),
        };
        let has_format = matches!(kind, "stderr" | "stdout");
        if !has_format && options.iter().any(|(key, _)| *key == "format") {
            return Err(format!("`{kind}` has a format of its own; leave `format` out"));
        }
        options.iter().try_fold(sink, |sink, (key, value)| with(sink, key, value, &[]))
    }
}

const TARGETS: &str = "write `stderr`, `stdout`, `file=PATH`, `syslog`, `syslog=SOCKET` or `journald`";

/// Those of a list, between which there are semicolons.
pub(crate) fn listed(text: &str) -> impl Iterator<Item = Result<Sink, String>> {
    let parts = words(text, |c| c == ';').into_iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).map(|part| part.parse())
}

/// An option that every sink has; `others` are those of its kind.
fn with(sink: Sink, key: &str, value: &str, others: &[&str]) -> Result<Sink, String> {
    Ok(match key {
        "levels" => sink.levels(value),
        "format" => sink.format(format(value)?),
        "name" => sink.name(value),
        "in_call" => sink.in_call(),
        _ => {
            let known = ["levels", "format", "name", "in_call"].iter().chain(others);
            let meant = known.copied().find(|known| known.starts_with(key) || key.starts_with(known));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            return Err(format!("`{key}` is not known of a sink{meant}"));
        }
    })
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
        pattern if pattern.contains('{') => Format::Pattern(pattern.to_owned()),
        _ => {
            let wanted =
                "write `pretty`, `compact`, `json`, `ecs`, `gelf`, `logfmt`, `otlp-json` or a pattern in quotes";
            return Err(format!("`{name}` is not a format; {wanted}"));
        }
    })
}

#[cfg(feature = "files")]
const FILE_OPTIONS: [&str; 8] =
    ["rotate_at", "rotate", "keep_files", "keep_age", "keep_bytes", "compress", "symlink", "heed_sighup"];

#[cfg(feature = "files")]
fn of_file(mut file: File, options: &[(&str, String)]) -> Result<Sink, String> {
    let (own, general): (Vec<_>, Vec<_>) = options.iter().partition(|(key, _)| FILE_OPTIONS.contains(key));
    for (key, value) in own {
        file = match *key {
            "rotate_at" => file.rotate_at_bytes(bytes(value)?),
            "rotate" => file.rotate(rotation(value)?, Zone::Utc),
            "keep_files" => file.keep_files(value.parse().map_err(|_| format!("`{value}` is not a number of files"))?),
            "keep_age" => file.keep_age(duration(value)?),
            "keep_bytes" => file.keep_bytes(bytes(value)?),
            "compress" => file.compress(compression(value)?),
            "symlink" => file.symlink(),
            _ => file.heed_sighup(),
        };
    }
    general.into_iter().try_fold(Sink::file(file), |sink, (key, value)| with(sink, key, value, &FILE_OPTIONS))
}

#[cfg(feature = "files")]
fn rotation(text: &str) -> Result<Rotation, String> {
    match text {
        "hourly" => Ok(Rotation::Hourly),
        "daily" => Ok(Rotation::Daily { hour: 0, minute: 0 }),
        _ => duration(text)
            .map(Rotation::Every)
            .map_err(|_| format!("`{text}` is no rotation; write `hourly`, `daily` or `6h`")),
    }
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

#[cfg(feature = "files")]
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
fn words(text: &str, is_between: impl Fn(char) -> bool) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        is_quoted ^= c == '"';
        if !is_quoted && is_between(c) {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn unquoted(value: &str) -> String {
    value.replace('"', "")
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
            ("file=x rotate_at=0", "`0` is not a size; write `100MiB`"),
            ("file=x rotate_at=99999999999GiB", "`99999999999GiB` is not a size"),
            ("file=x keep_age=90", "`90` is not a time"),
            ("file=x rotate=yearly", "`yearly` is no rotation"),
            ("file=x compress=rar", "`rar` is no compression"),
            ("file=x keep=3", "`keep` is not known of a sink; did you mean `keep_files`?"),
        ] {
            assert!(error(text).starts_with(told), "{text}: {}", error(text));
        }
    }

    #[test]
    #[cfg(all(feature = "files", feature = "zstd"))]
    fn all_that_can_be_set() {
        let text = r#"file="/var/log/a b.log" levels=debug,hyper=off format=otlp-json name=audit in_call rotate_at=100MiB rotate=6h
            keep_files=3 keep_age=90d keep_bytes=1GiB compress=zstd symlink heed_sighup"#;
        let sinks: Vec<Sink> =
            listed(&format!("stderr ;{text};; stdout format=\"{{time}}; {{message}}\"")).map(Result::unwrap).collect();
        assert_eq!(sinks.len(), 3);
        let super::super::Target::File(file) = &sinks[1].target else { panic!("{:?}", sinks[1]) };
        let expected = File::new("/var/log/a b.log")
            .rotate_at_bytes(100 << 20)
            .rotate(Rotation::Every(Duration::from_secs(6 * 3600)), Zone::Utc)
            .keep_files(3)
            .keep_age(Duration::from_secs(90 * 24 * 3600))
            .keep_bytes(1 << 30)
            .compress(Compression::Zstd)
            .symlink()
            .heed_sighup();
        assert_eq!(format!("{file:?}"), format!("{expected:?}"));
        assert_eq!(
            (sinks[1].name.as_str(), sinks[1].levels.as_deref(), sinks[1].in_call),
            ("audit", Some("debug,hyper=off"), true)
        );
        assert_eq!(sinks[2].format, Some(Format::Pattern("{time}; {message}".to_owned())));
    }
}
