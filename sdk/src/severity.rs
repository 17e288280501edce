//! OpenTelemetry's severities between and beyond `tracing`'s five levels: `NOTICE`, `CRITICAL`, `FATAL` and the rest of the 24.
//!
//! The field `watchbell.severity` sets a record's severity, by name or by number; it is no attribute. The level stays what decides whether the record is
//! made and where it goes. [`notice!`](crate::notice!) and [`fatal!`](crate::fatal!) write the usual ones.
//!
//! ```
//! use watchbell::tracing;
//!
//! # let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
//! # let sink = { let told = told.clone(); watchbell::sink::Sink::callback("t", move |record| told.lock().unwrap().push((record.severity_number(), record.severity_text().to_owned()))) };
//! # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).sink(sink).init()?;
//! watchbell::notice!(shop_id = 3, "the shop is open"); // 10, `NOTICE`
//! watchbell::fatal!("no database"); // 21, `FATAL`
//! tracing::error!(watchbell.severity = "critical", "half of the stock is gone"); // 18, `CRITICAL`
//! tracing::warn!(watchbell.severity = 14, "the queue grows"); // 14, `WARN2`
//! # drop(guard);
//! # let expected = [(10, "NOTICE"), (21, "FATAL"), (18, "CRITICAL"), (14, "WARN2")].map(|(number, text)| (number, text.to_owned()));
//! # assert_eq!(*told.lock().unwrap(), expected);
//! # Ok::<(), watchbell::InitError>(())
//! ```
//!
//! | name | number |
//! |---|---|
//! | `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` | 1, 5, 9, 13, 17, 21; with 2, 3 or 4 behind it as many more: `INFO2` is 10 |
//! | `NOTICE`, `CRITICAL`, `ALERT`, `EMERGENCY` | 10, 18, 19, 21, as OpenTelemetry maps syslog's |

use opentelemetry::Value;
use tracing_core::Level;

/// Logs at INFO with OpenTelemetry's severity 10, `NOTICE`: normal, and worth knowing. As `tracing::info!` otherwise.
///
/// ```
/// watchbell::notice!(shop_id = 3, "the shop is open");
/// ```
#[macro_export]
macro_rules! notice {
    ($($event:tt)+) => { $crate::tracing::info!(watchbell.severity = "NOTICE", $($event)+) };
}

/// Logs at ERROR with OpenTelemetry's severity 21, `FATAL`: the service cannot go on. As `tracing::error!` otherwise.
///
/// ```
/// watchbell::fatal!(database = "orders", "no database");
/// ```
#[macro_export]
macro_rules! fatal {
    ($($event:tt)+) => { $crate::tracing::error!(watchbell.severity = "FATAL", $($event)+) };
}

/// Number and name of a severity that is named in any case.
pub(crate) fn named(text: &str) -> Option<(u8, &'static str)> {
    let usual = NAMES.into_iter().zip(1..).map(|(name, number)| (number, name));
    usual.chain(OTHERS).find(|(_, name)| text.eq_ignore_ascii_case(name))
}

/// OpenTelemetry's short name of a number.
pub(crate) fn name(number: u8) -> &'static str {
    NAMES[usize::from(number.clamp(1, 24)) - 1]
}

/// The number of a level.
pub(crate) fn of_level(level: Level) -> u8 {
    match level {
        Level::TRACE => 1,
        Level::DEBUG => 5,
        Level::INFO => 9,
        Level::WARN => 13,
        Level::ERROR => 17,
    }
}

/// The number that a field says, by name or by number; `None` where it says none.
pub(crate) fn of_value(value: &Value) -> Option<u8> {
    match value {
        Value::I64(number @ 1..=24) => Some(*number as u8),
        Value::String(text) => named(text.as_str()).map(|(number, _)| number),
        _ => None,
    }
}

const NAMES: [&str; 24] = [
    "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3", "INFO4",
    "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3", "FATAL4",
];

/// Syslog's, and what else is usual.
const OTHERS: [(u8, &str); 5] = [(10, "NOTICE"), (13, "WARNING"), (18, "CRITICAL"), (19, "ALERT"), (21, "EMERGENCY")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for number in 1..=24 {
            assert_eq!(named(name(number)), Some((number, name(number))));
        }
        assert_eq!(named("Notice"), Some((10, "NOTICE")));
        assert_eq!(["loud", "", "INFO5", "INFO1"].map(named), [None; 4]);
    }
}
