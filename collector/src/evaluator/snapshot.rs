//! Snapshots: the evaluator's state at a position of the log, from which a start goes on instead of from the log's beginning.
//!
//! A snapshot is data, not cache: firing alerts and long windows outlive the segments they came from. So two are kept, each is
//! written beside its final name and synced before it is renamed, and no segment after the older one is dropped.
//!
//! The file `<position, 20 digits>.snapshot`: the magic `WBSNAP01`, CRC-32 of all that follows (u32, little-endian), then JSON.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::Alerting;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::engine::Engine;
use watchbell_rules::time::Timestamp;

use super::filling::{Filling, Waiting};
use super::rule_set::RuleSet;
use super::{Effect, Evaluator};
use crate::outbox::{Outbox, Outcome};
use crate::wal::{Log, Position, make_folder};

/// The evaluator's state, as it is written.
#[derive(Serialize, Deserialize)]
struct State {
    position: Position,
    /// Which log it is of, as that said at the position; not known of one that was written before it was asked.
    #[serde(default)]
    log: Option<u64>,
    clock: Timestamp,
    /// Not known of one that was written before it was asked.
    #[serde(default)]
    heard: Option<Timestamp>,
    rules: RuleSet,
    /// Which of them are not in force yet.
    #[serde(default)]
    waiting: Option<Waiting>,
    #[serde(with = "base64_bytes")]
    engine: Vec<u8>,
    #[serde(with = "base64_bytes")]
    alerting: Vec<u8>,
    /// Messages of which the log does not tell that they were sent.
    undelivered: Vec<Arc<Notification>>,
    /// How others ended of which the log does not tell it yet.
    unwritten: Vec<Outcome>,
}

/// A copy of the evaluator's state, to be written while the evaluator goes on.
pub struct Frozen {
    position: Position,
    log: Option<u64>,
    clock: Timestamp,
    heard: Timestamp,
    rules: RuleSet,
    waiting: Option<Waiting>,
    engine: Engine,
    alerting: Alerting,
    undelivered: Vec<Arc<Notification>>,
    unwritten: Vec<Outcome>,
}

impl Frozen {
    /// The position whose state it is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The bytes of a snapshot file. They may be stored once the log is durable up to [`position`](Self::position), not before.
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = State {
            position: self.position,
            log: self.log,
            clock: self.clock,
            heard: Some(self.heard),
            rules: self.rules.clone(),
            waiting: self.waiting.clone(),
            engine: self.engine.snapshot(),
            alerting: self.alerting.snapshot(),
            undelivered: self.undelivered.clone(),
            unwritten: self.unwritten.clone(),
        };
        seal(&serde_json::to_vec(&state).unwrap_or_default())
    }
}

impl Evaluator {
    /// The state after the last frame, in the bytes of a snapshot file.
    pub fn snapshot(&self) -> Vec<u8> {
        self.freeze().to_bytes()
    }

    /// The state after the last frame.
    pub fn freeze(&self) -> Frozen {
        let waiting = self.waiting.iter().filter_map(|(_, effect)| match effect {
            Effect::Notify(notification) => Some(Arc::new(notification.clone())),
            Effect::Transition(_) | Effect::Sample(_) | Effect::Outcome(_) | Effect::Replayed => None,
        });
        Frozen {
            position: self.position,
            log: self.log.identity(self.position),
            clock: self.clock,
            heard: self.heard,
            rules: self.rules.clone(),
            waiting: self.filling.as_ref().map(|filling| filling.waiting().clone()),
            engine: self.engine.clone(),
            alerting: self.alerting.clone(),
            undelivered: self.outbox.undelivered().chain(waiting).collect(),
            unwritten: self.outbox.unwritten().cloned().collect(),
        }
    }

    /// An evaluator in the state of a snapshot.
    ///
    /// # Errors
    /// The bytes are damaged, of a version that this one cannot read, or of another log.
    pub fn restore(bytes: &[u8], log: Arc<dyn Log>, mut outbox: Outbox) -> Result<Self, RestoreError> {
        let state: State = serde_json::from_slice(unseal(bytes)?)?;
        if let (Some(of), Some(here)) = (state.log, log.identity(state.position))
            && of != here
        {
            return Err(RestoreError::OfAnotherLog);
        }
        let compiled = state.rules.compile()?;
        let (plan, filling) = match state.waiting {
            None => (compiled.plan, None),
            Some(waiting) => {
                (waiting.in_force(&state.rules, &compiled.plan)?, Some(Filling::new(waiting, compiled.plan)))
            }
        };
        let engine = Engine::restore(Arc::clone(&plan), &state.engine)?;
        let alerting = Alerting::restore(compiled.policy, &state.alerting)?;
        for notification in state.undelivered {
            outbox.handle_notification(Arc::unwrap_or_clone(notification));
        }
        for outcome in state.unwritten {
            outbox.handle_told(outcome);
        }
        let mut evaluator = Self::new(state.position, log, outbox);
        evaluator.rules = state.rules;
        evaluator.plan = plan;
        evaluator.filling = filling;
        evaluator.engine = engine;
        evaluator.alerting = alerting;
        evaluator.clock = state.clock;
        evaluator.heard = state.heard.unwrap_or(state.clock);
        Ok(evaluator)
    }
}

/// Why an evaluator was not restored.
#[derive(Debug)]
pub enum RestoreError {
    /// The log is another one than the snapshot was made of, such as one that was deleted or has come back from a backup.
    OfAnotherLog,
    /// The bytes cannot be used.
    Unusable(String),
}

impl<E: ToString> From<E> for RestoreError {
    fn from(error: E) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// The folder that the snapshots are in.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
}

impl SnapshotStore {
    /// Opens the folder; makes it where there is none.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        make_folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The newest snapshot that can be read, restored by `restore`; a damaged one is said and passed over. One of another log, as one behind
    /// the log's `end` is, too, is put aside under another name: its evaluator would take the frames up to there for frames that it had judged.
    ///
    /// # Errors
    /// The folder cannot be read, or a snapshot not be put aside.
    pub fn load(
        &self,
        end: Position,
        restore: impl Fn(&[u8]) -> Result<Evaluator, RestoreError>,
    ) -> io::Result<Option<Evaluator>> {
        for position in self.positions()?.into_iter().rev() {
            let path = self.path(position);
            let restored = match fs::read(&path) {
                _ if position > end => Err(RestoreError::OfAnotherLog),
                Ok(bytes) => restore(&bytes),
                Err(error) => Err(error.into()),
            };
            match restored {
                Ok(evaluator) => return Ok(Some(evaluator)),
                Err(RestoreError::Unusable(error)) => {
                    tracing::error!(path = %path.display(), %error, "a snapshot cannot be used");
                }
                Err(RestoreError::OfAnotherLog) => {
                    let aside = path.with_extension(OF_ANOTHER_LOG);
                    tracing::error!(path = %path.display(), aside = %aside.display(), "a snapshot is not of this log: was the log deleted or taken from a backup? It is put aside; alerts begin anew from what the log holds");
                    fs::rename(&path, &aside)?;
                }
            }
        }
        Ok(None)
    }

    /// Stores a snapshot, drops those before the one before it, and tells the position of the oldest that is left: the log must keep what
    /// follows it.
    ///
    /// # Errors
    /// The disk.
    pub fn store(&self, position: Position, snapshot: &[u8]) -> io::Result<Position> {
        let part = self.dir.join("part");
        let mut file = File::create(&part)?;
        file.write_all(snapshot)?;
        file.sync_all()?;
        fs::rename(&part, self.path(position))?;
        File::open(&self.dir)?.sync_all()?;
        let mut positions = self.positions()?;
        while positions.len() > SNAPSHOTS_KEPT {
            fs::remove_file(self.path(positions.remove(0)))?;
        }
        Ok(if positions.len() < SNAPSHOTS_KEPT { Position::default() } else { positions[0] })
    }

    /// Positions of the snapshots that are there, oldest first.
    fn positions(&self) -> io::Result<Vec<Position>> {
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        let position = |name: &OsString| name.to_str()?.strip_suffix(".snapshot")?.parse().ok().map(Position);
        let mut positions: Vec<Position> = names.iter().filter_map(position).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    fn path(&self, position: Position) -> PathBuf {
        self.dir.join(format!("{:020}.snapshot", position.0))
    }
}

fn seal(state: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(MAGIC.len() + 4 + state.len());
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&crc32fast::hash(state).to_le_bytes());
    sealed.extend_from_slice(state);
    sealed
}

fn unseal(bytes: &[u8]) -> Result<&[u8], String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a snapshot does")?;
    let (crc, state) = rest.split_first_chunk::<4>().ok_or("it is cut short")?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(state) {
        return Err("its checksum does not fit".to_owned());
    }
    Ok(state)
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(de::Error::custom)
    }
}

const MAGIC: &[u8] = b"WBSNAP01";
const SNAPSHOTS_KEPT: usize = 2;
/// How the name of a snapshot that was put aside ends.
const OF_ANOTHER_LOG: &str = "of-another-log";
