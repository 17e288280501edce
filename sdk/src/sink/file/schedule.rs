//! When a file is rotated by time.

use std::time::Duration;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan, Unit, Zoned, ZonedRound};

/// Times of rotation.
///
/// ```
/// use watchbell::sink::file::{File, Rotation, Zone};
///
/// let weekly = Rotation::Weekly { weekday: 1, hour: 4, minute: 30 };
/// let file = File::new("/var/log/checkout.log").rotate(weekly, Zone::Utc);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// At each full hour.
    Hourly,
    /// Each day at this time; where a change of the clocks leaves it out, as much later.
    Daily {
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
    /// Once a week at this time.
    Weekly {
        /// 1 is Monday, 7 is Sunday.
        weekday: u8,
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
    /// Whenever so much time has passed, counted from 1970, so that processes agree.
    Every(Duration),
}

/// Whose hours and days are meant.
///
/// ```
/// use watchbell::sink::file::{File, Rotation, Zone};
///
/// let file = File::new("/var/log/checkout.log").rotate(Rotation::Hourly, Zone::Named("Europe/Berlin".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Zone {
    /// Coordinated universal time.
    Utc,
    /// The machine's zone.
    Local,
    /// A zone by its name: `Europe/Berlin`. It is an error if the machine does not know it.
    Named(String),
}

impl Zone {
    pub(in crate::sink) fn find(&self) -> Result<TimeZone, String> {
        match self {
            Self::Utc => Ok(TimeZone::UTC),
            Self::Local => {
                TimeZone::try_system().map_err(|error| format!("the machine's time zone is not known: {error}"))
            }
            Self::Named(name) => {
                TimeZone::get(name).map_err(|error| format!("the time zone `{name}` is not known: {error}"))
            }
        }
    }
}

pub(super) struct Schedule {
    rotation: Rotation,
    zone: TimeZone,
    next_unix_nano: u64,
}

impl Schedule {
    pub(super) fn new(rotation: Rotation, zone: Zone) -> Result<Self, String> {
        let zone = zone.find()?;
        let is_wrong = match rotation {
            Rotation::Hourly => false,
            Rotation::Daily { hour, minute } => hour > 23 || minute > 59,
            Rotation::Weekly { weekday, hour, minute } => !(1..=7).contains(&weekday) || hour > 23 || minute > 59,
            Rotation::Every(interval) => interval < Duration::from_secs(1),
        };
        if is_wrong {
            return Err(format!(
                "there is no time of rotation such as {rotation:?}; an interval has a second at least"
            ));
        }
        Ok(Self { rotation, zone, next_unix_nano: u64::MAX })
    }

    /// The next rotation is the first after this time.
    pub(super) fn begin(&mut self, unix_nano: u64) {
        self.next_unix_nano = match self.rotation {
            Rotation::Every(interval) => {
                let interval = interval.as_nanos() as u64;
                (unix_nano / interval + 1).saturating_mul(interval)
            }
            _ => self.next_of_calendar(unix_nano).unwrap_or(u64::MAX), // beyond the calendar's end
        };
    }

    pub(super) fn is_due(&self, unix_nano: u64) -> bool {
        unix_nano >= self.next_unix_nano
    }

    fn next_of_calendar(&self, unix_nano: u64) -> Option<u64> {
        let after = Timestamp::from_nanosecond(i128::from(unix_nano)).ok()?.to_zoned(self.zone.clone());
        let next = match self.rotation {
            Rotation::Weekly { weekday, hour, minute } => {
                let weekday = Weekday::from_monday_one_offset(weekday as i8).ok()?;
                self.first_at(&after, hour, minute, |day| day == weekday)
            }
            Rotation::Daily { hour, minute } => self.first_at(&after, hour, minute, |_| true),
            Rotation::Hourly | Rotation::Every(_) => {
                let hour = after.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc)).ok()?;
                hour.checked_add(1.hour()).ok()
            }
        };
        u64::try_from(next?.timestamp().as_nanosecond()).ok()
    }

    /// The first such time of a day that is wanted.
    fn first_at(&self, after: &Zoned, hour: u8, minute: u8, is_wanted: impl Fn(Weekday) -> bool) -> Option<Zoned> {
        let mut date = after.date();
        for _ in 0..=8 {
            let at = date.at(hour as i8, minute as i8, 0, 0).to_zoned(self.zone.clone()).ok()?;
            if at > *after && is_wanted(date.weekday()) {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(rotation: Rotation, zone: &str, after: &str) -> String {
        let mut schedule = Schedule::new(rotation, Zone::Named(zone.to_owned())).unwrap();
        let after: Timestamp = after.parse().unwrap();
        schedule.begin(after.as_nanosecond() as u64);
        assert!(!schedule.is_due(schedule.next_unix_nano - 1) && schedule.is_due(schedule.next_unix_nano));
        Timestamp::from_nanosecond(i128::from(schedule.next_unix_nano)).unwrap().to_string()
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let daily = Rotation::Daily { hour: 0, minute: 0 };
        assert_eq!(next(daily, "Europe/Berlin", "2026-11-24T12:00:00Z"), "2026-11-24T23:00:00Z");
        assert_eq!(next(daily, "Europe/Berlin", "2026-11-24T23:00:00Z"), "2026-11-25T23:00:00Z", "strictly after");
        assert_eq!(next(daily, "Asia/Kolkata", "2026-11-24T12:00:00Z"), "2026-11-24T18:30:00Z");
        let half_past_two = Rotation::Daily { hour: 2, minute: 30 };
        assert_eq!(
            next(half_past_two, "Europe/Berlin", "2026-03-28T12:00:00Z"),
            "2026-03-29T01:30:00Z",
            "there is none: 3:30"
        );
        assert_eq!(
            next(half_past_two, "Europe/Berlin", "2026-10-24T12:00:00Z"),
            "2026-10-25T00:30:00Z",
            "there are two: the first"
        );
        let monday = Rotation::Weekly { weekday: 1, hour: 6, minute: 0 };
        assert_eq!(next(monday, "UTC", "2026-11-23T06:00:00Z"), "2026-11-30T06:00:00Z");
        assert_eq!(next(Rotation::Hourly, "Asia/Kolkata", "2026-11-24T12:00:00Z"), "2026-11-24T12:30:00Z");
        let every = Rotation::Every(Duration::from_secs(900));
        assert_eq!(next(every, "UTC", "2026-11-24T12:07:00Z"), "2026-11-24T12:15:00Z");
    }

    #[test]
    fn mistakes_are_told() {
        let wrong = |rotation, zone| Schedule::new(rotation, zone).err().unwrap();
        assert!(wrong(Rotation::Daily { hour: 24, minute: 0 }, Zone::Utc).contains("hour: 24"));
        assert!(wrong(Rotation::Every(Duration::ZERO), Zone::Utc).contains("a second at least"));
        assert!(
            wrong(Rotation::Hourly, Zone::Named("Europe/Atlantis".to_owned()))
                .contains("`Europe/Atlantis` is not known")
        );
    }
}
