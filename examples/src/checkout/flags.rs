//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const HELP: &str = "\
A checkout with an inventory and a payment upstream, under load. Telemetry goes where OTEL_EXPORTER_OTLP_ENDPOINT says.

Usage: checkout [FLAGS]
  --address IP:PORT     where the checkout listens (127.0.0.1:0, a free port)
  --port PORT           the same on loopback, by port alone
  --rate N              orders a second that it places with itself (50; 0: none)
  --fail-after TIME     when the payment upstream begins to fail (never)
  --heal-after TIME     when it heals (never)
  --duration TIME       when the program ends (at Ctrl-C)
  --console             writes records to stderr too
TIME is since the start: 500ms, 15s or 2m.";

/// What was asked for.
pub(crate) struct Flags {
    pub(crate) address: SocketAddr,
    pub(crate) rate: u32,
    pub(crate) fail_after: Option<Duration>,
    pub(crate) heal_after: Option<Duration>,
    pub(crate) duration: Option<Duration>,
    pub(crate) console: bool,
}

impl Flags {
    /// Reads the program's arguments; the error is fit to be shown.
    pub(crate) fn parse() -> Result<Self, String> {
        Self::of(std::env::args().skip(1))
    }

    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags =
            Self { address: loopback(0), rate: 50, fail_after: None, heal_after: None, duration: None, console: false };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{flag}` wants a value\n\n{HELP}"));
            match flag.as_str() {
                "--address" => flags.address = address(&value()?)?,
                "--port" => flags.address = loopback(number(&value()?)?),
                "--rate" => flags.rate = number(&value()?)?,
                "--fail-after" => flags.fail_after = Some(time(&value()?)?),
                "--heal-after" => flags.heal_after = Some(time(&value()?)?),
                "--duration" => flags.duration = Some(time(&value()?)?),
                "--console" => flags.console = true,
                _ => return Err(format!("`{flag}` is not a flag\n\n{HELP}")),
            }
        }
        Ok(flags)
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; write `127.0.0.1:8080`"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number that fits here"))
}

fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let parsed = units.iter().find_map(|(unit, millis)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_millis(count.checked_mul(*millis)?))
    });
    parsed.ok_or_else(|| format!("`{text}` is not a time; write `500ms`, `15s` or `2m`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let line = "--port 8080 --rate 5 --fail-after 15s --heal-after 2m --duration 500ms --console";
        let flags = Flags::of(line.split(' ').map(str::to_owned)).unwrap();
        assert_eq!((flags.address, flags.rate, flags.console), (loopback(8080), 5, true));
        assert_eq!(flags.fail_after, Some(Duration::from_secs(15)));
        assert_eq!(flags.heal_after, Some(Duration::from_secs(120)));
        assert_eq!(flags.duration, Some(Duration::from_millis(500)));
    }

    #[test]
    fn mistakes_are_told() {
        let error = |line: &str| Flags::of(line.split(' ').map(str::to_owned)).err().unwrap();
        assert!(error("--address localhost").contains("write `127.0.0.1:8080`"));
        assert!(error("--port x").starts_with("`x` is not a number"));
        assert!(error("--port 70000").starts_with("`70000` is not a number that fits"));
        assert!(error("--duration 5").contains("write `500ms`"));
        assert!(error("--rate").starts_with("`--rate` wants a value"));
        assert!(error("--speed 3").starts_with("`--speed` is not a flag"));
    }
}
