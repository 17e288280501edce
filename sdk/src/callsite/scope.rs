//! Instrumentation scopes by number, the same for the whole process.
//!
//! A scope is there as long as the process. Whoever looks one up, by its number or by its name, takes no lock and allocates nothing: records of the `log`
//! crate and of OpenTelemetry's API name theirs each time.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};

use opentelemetry::InstrumentationScope;
use tracing_core::Level;
use watchbell_proto::wire::{Fields, Value, put_bytes_field};

use super::{Found, severity};
use crate::encode::put_scope;
use crate::lane::Local;
use crate::levels::{Levels, Ways};
use crate::lock;

/// Most instrumentation scopes that are told apart (4,096); records of any beyond go under the scope `watchbell.overflow`.
pub(crate) const SCOPES_MAX: usize = 4096;

/// An instrumentation scope by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(u16);

/// A scope's bytes: the content of an `InstrumentationScope` message, and its schema's address.
pub(crate) struct Scope {
    pub(crate) message: Vec<u8>,
    pub(crate) schema_url: String,
    /// Whether it has nothing but a name, as that of a target.
    is_target: bool,
    /// Of its records, by their level.
    found: [Found; 5],
}

impl Scope {
    fn new(message: Vec<u8>, schema_url: String) -> Self {
        let mut target = Vec::new();
        put_bytes_field(&mut target, 1, name(&message).as_bytes());
        let is_target = schema_url.is_empty() && message == target;
        Self { message, schema_url, is_target, found: Default::default() }
    }

    pub(crate) fn name(&self) -> &str {
        name(&self.message)
    }

    /// What was found of its records of this level.
    #[inline]
    pub(crate) fn found(&self, level: Level) -> &Found {
        &self.found[severity(level).0 as usize / 4]
    }
}

fn name(message: &[u8]) -> &str {
    let name = Fields::new(message).find_map(|field| match field {
        (1, Value::Bytes(name)) => str::from_utf8(name).ok(),
        _ => None,
    });
    name.unwrap_or_default()
}

/// By number; the first is that of the overflow, the only one that may be asked for before it is there.
static SCOPES: [OnceLock<Box<Scope>>; SCOPES_MAX] = [const { OnceLock::new() }; SCOPES_MAX];

/// Numbers of scopes: each is in the first place that was free from that of its name on. 0 is a free one, and half of them always are.
static PLACES: [AtomicU16; 2 * SCOPES_MAX] = [const { AtomicU16::new(0) }; 2 * SCOPES_MAX];

/// How many there are, the overflow among them.
static COUNT: AtomicU16 = AtomicU16::new(1);

/// Locked by who adds one.
static ADDING: Mutex<()> = Mutex::new(());

/// Whether a scope is that of a target.
fn is_of(target: &str) -> impl Fn(&Scope) -> bool {
    move |scope| scope.is_target && scope.name() == target
}

/// The scope of this name that `is_it`, or the place where it is to be.
fn find(name: &str, is_it: impl Fn(&Scope) -> bool) -> Result<ScopeId, &'static AtomicU16> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3) // FNV-1a
    });
    let mut at = (hash >> 32) as usize;
    loop {
        let place = &PLACES[at % PLACES.len()];
        match ScopeId(place.load(Ordering::Acquire)) {
            ScopeId(0) => return Err(place),
            known if is_it(known.scope()) => return Ok(known),
            _ => at += 1,
        }
    }
}

/// The same; it is added if it is not there.
fn find_or_add(name: &str, is_it: impl Fn(&Scope) -> bool, new: impl FnOnce() -> Scope) -> ScopeId {
    let are_all_there = || usize::from(COUNT.load(Ordering::Acquire)) >= SCOPES_MAX;
    match find(name, &is_it) {
        Ok(known) => return known,
        Err(_) if are_all_there() => return ScopeId(0),
        Err(_) => {}
    }
    let _adding = lock(&ADDING);
    match find(name, is_it) {
        Ok(known) => known, // it was added meanwhile
        Err(_) if are_all_there() => ScopeId(0),
        Err(place) => {
            let number = COUNT.fetch_add(1, Ordering::AcqRel);
            let _ = SCOPES[usize::from(number)].set(Box::new(new()));
            place.store(number, Ordering::Release);
            ScopeId(number)
        }
    }
}

impl ScopeId {
    /// The number that stands for a scope in a chunk.
    pub(crate) fn to_u16(self) -> u16 {
        self.0
    }

    pub(crate) fn from_u16(number: u16) -> Self {
        Self(number)
    }

    /// The scope that is named as a target.
    pub(crate) fn of_target(target: &str) -> Self {
        find_or_add(target, is_of(target), || {
            let mut message = Vec::new();
            put_bytes_field(&mut message, 1, target.as_bytes());
            Scope::new(message, String::new())
        })
    }

    /// Where a target's records of this level go; it need not have a scope, and is not given one.
    pub(crate) fn ways_of_target(target: &str, levels: &Levels, level: Level) -> Ways {
        match find(target, is_of(target)) {
            Ok(known) => known.ways(levels, level),
            Err(_) => levels.ways(target, level),
        }
    }

    /// The scope of a tracer or logger.
    pub(crate) fn of_scope(scope: &InstrumentationScope) -> Self {
        let find = |message: &mut Vec<u8>| {
            put_scope(message, scope);
            Self::of(message, scope.schema_url().unwrap_or_default())
        };
        match Local::with(|local| local.with_scratch(find)) {
            Some(id) => id,
            None => find(&mut Vec::new()),
        }
    }

    /// The scope of these bytes.
    pub(crate) fn of(message: &[u8], schema_url: &str) -> Self {
        find_or_add(
            name(message),
            |scope| scope.message == message && scope.schema_url == schema_url,
            || Scope::new(message.to_vec(), schema_url.to_owned()),
        )
    }

    /// Where its records of this level go.
    pub(crate) fn ways(self, levels: &Levels, level: Level) -> Ways {
        let scope = self.scope();
        scope.found(level).ways(levels, scope.name(), level)
    }

    /// The scope's bytes.
    pub(crate) fn scope(self) -> &'static Scope {
        SCOPES[usize::from(self.0)].get_or_init(|| {
            let mut message = Vec::new();
            put_bytes_field(&mut message, 1, b"watchbell.overflow");
            Box::new(Scope::new(message, String::new()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_asked_for_alone_is_not_kept() {
        let levels = Levels::new("info,asked::db=debug".parse().unwrap(), vec![None], false);
        for (target, level, ways) in [
            ("asked::db", Level::DEBUG, Ways::COLLECTOR),
            ("asked::db", Level::TRACE, Ways::NONE),
            ("asked::web", Level::DEBUG, Ways::NONE),
        ] {
            assert_eq!(ScopeId::ways_of_target(target, &levels, level), ways, "{level} of {target}");
            assert!(find(target, is_of(target)).is_err(), "{target}");
            let ways_of_scope = || ScopeId::ways_of_target(&format!("{target}::kept"), &levels, level);
            let before = ways_of_scope();
            ScopeId::of_target(&format!("{target}::kept"));
            assert_eq!((before, ways_of_scope()), (ways, ways), "{level} of {target}");
        }
    }
}
