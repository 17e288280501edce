//! The engine's state as bytes, and how it passes from one set of rules to the next.
//!
//! A snapshot is `WBEA`, the XXH3 of the rest in eight bytes (least significant first), and the state in postcard. Leaves and rules
//! go by their keys: what the new rules have too keeps its state, an alert whose rule is gone resolves. The keys hold types of the
//! plan as `Debug` prints them: who changes one of these, or the state, counts the magic up.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Fill, Gap, LeafState, RuleState, State};
use crate::plan::{Leaf, Plan};
use crate::time::Timestamp;
use crate::watermark::Watermark;

/// Why a snapshot was not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It was written by another version, or is no snapshot.
    Format,
    /// Its bytes were changed.
    Checksum,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "the snapshot has another format",
            Self::Checksum => "the snapshot's checksum does not fit its bytes",
        })
    }
}

impl std::error::Error for SnapshotError {}

/// The state with the keys of what it belongs to.
#[derive(Debug, Deserialize)]
struct Keyed {
    clock: Timestamp,
    watermarks: Vec<Watermark>,
    leaves: BTreeMap<String, LeafState>,
    rules: BTreeMap<String, RuleState>,
    /// Behind the rest: snapshots of before have none.
    #[serde(skip)]
    gaps: VecDeque<Gap>,
}

/// The same, to be written: it may be much, and is not copied for that.
#[derive(Serialize)]
struct KeyedRef<'a> {
    clock: Timestamp,
    watermarks: &'a [Watermark],
    leaves: BTreeMap<&'a str, &'a LeafState>,
    rules: BTreeMap<&'a str, &'a RuleState>,
    gaps: &'a VecDeque<Gap>,
}

impl Engine {
    /// All that the future depends on. Outputs that were not polled are not in it.
    pub fn snapshot(&self) -> Vec<u8> {
        // The types have nothing that postcard cannot write.
        let state = postcard::to_stdvec(&keyed_ref(self.plan(), self.state())).unwrap_or_default();
        let checksum = xxhash_rust::xxh3::xxh3_64(&state).to_le_bytes();
        [MAGIC, &checksum, &state].concat()
    }

    /// An engine that goes on where the snapshot was taken, with these rules.
    pub fn restore(plan: Arc<Plan>, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or(SnapshotError::Format)?;
        if ![MAGIC, MAGIC_WITH_LABELS, MAGIC_WITHOUT_GAPS].contains(&magic) {
            return Err(SnapshotError::Format);
        }
        let (checksum, state) = rest.split_first_chunk().ok_or(SnapshotError::Format)?;
        if u64::from_le_bytes(*checksum) != xxhash_rust::xxh3::xxh3_64(state) {
            return Err(SnapshotError::Checksum);
        }
        let (mut keyed, gaps): (Keyed, _) = postcard::take_from_bytes(state).map_err(|_| SnapshotError::Format)?;
        if magic != MAGIC_WITHOUT_GAPS {
            keyed.gaps = postcard::from_bytes(gaps).map_err(|_| SnapshotError::Format)?;
        }
        let now = keyed.clock;
        Ok(Self::new(plan, now).with_keyed(keyed, now))
    }

    /// Goes on with other rules from `now` on. What is new in them can be [filled](Self::fills_since) with the past.
    pub fn replace(&mut self, plan: Arc<Plan>, now: Timestamp) {
        self.handle_timeout(now);
        let keyed = keyed(self.plan(), self.state().clone());
        let outputs = std::mem::take(self.outputs_mut());
        *self = Self::new(plan, now.max(keyed.clock)).with_keyed(keyed, now);
        let resolved = std::mem::replace(self.outputs_mut(), outputs);
        self.outputs_mut().extend(resolved);
    }

    fn with_keyed(self, mut keyed: Keyed, now: Timestamp) -> Self {
        let plan = self.plan().clone();
        let fresh = self.into_state();
        let fill = new_in(&plan, &mut keyed, fresh.clock);
        let leaves = fresh.leaves.into_iter().zip(&plan.leaves);
        let rules = fresh.rules.into_iter().zip(&plan.rules);
        let mut state = State {
            clock: fresh.clock,
            watermarks: fresh.watermarks.into_iter().map(|fresh| taken_over(&keyed.watermarks, fresh)).collect(),
            evidence_bytes: 0,
            leaves: leaves.map(|(fresh, leaf)| keyed.leaves.remove(&leaf.key).unwrap_or(fresh)).collect(),
            rules: rules.map(|(fresh, rule)| taken_over_rule(keyed.rules.remove(&rule.key), fresh)).collect(),
            gaps: keyed.gaps,
        };
        state.evidence_bytes = state.leaves.iter().map(LeafState::evidence_bytes).sum();
        let mut engine = Self::with_state(plan, state).with_fill(fill);
        keyed.rules.into_values().for_each(|rule| engine.resolve_all(rule, now));
        engine
    }
}

/// What has no state yet, or too short a one.
fn new_in(plan: &Plan, keyed: &mut Keyed, now: Timestamp) -> Fill {
    let rules = plan.rules.iter().enumerate().filter(|(_, rule)| !keyed.rules.contains_key(&rule.key));
    let rules = rules.map(|(at, _)| at).collect();
    let wants = |leaf: &Leaf| match keyed.leaves.get_mut(&leaf.key) {
        Some(state) => state.retain_for(leaf, now),
        None => Some(Timestamp::MAX),
    };
    let leaves = plan.leaves.iter().map(wants).enumerate();
    Fill { leaves: leaves.filter_map(|(at, until)| Some((at, until?))).collect(), rules }
}

/// The watermark of the same `idle_timeout`, else another one's sources.
fn taken_over(before: &[Watermark], fresh: Watermark) -> Watermark {
    let same = before.iter().find(|other| other.idle_timeout() == fresh.idle_timeout());
    let idle_timeout = fresh.idle_timeout();
    same.or(before.first()).map_or(fresh, |other| other.clone().with_idle_timeout(idle_timeout))
}

/// The rule's state from before, which may have gone by a longer `interval`.
fn taken_over_rule(before: Option<RuleState>, fresh: RuleState) -> RuleState {
    match before {
        Some(mut before) => {
            before.next_step = before.next_step.min(fresh.next_step);
            before
        }
        None => fresh,
    }
}

fn keyed_ref<'a>(plan: &'a Plan, state: &'a State) -> KeyedRef<'a> {
    KeyedRef {
        clock: state.clock,
        watermarks: &state.watermarks,
        leaves: plan.leaves.iter().map(|leaf| leaf.key.as_str()).zip(&state.leaves).collect(),
        rules: plan.rules.iter().map(|rule| rule.key.as_str()).zip(&state.rules).collect(),
        gaps: &state.gaps,
    }
}

fn keyed(plan: &Plan, state: State) -> Keyed {
    Keyed {
        clock: state.clock,
        watermarks: state.watermarks,
        leaves: plan.leaves.iter().map(|leaf| leaf.key.clone()).zip(state.leaves).collect(),
        rules: plan.rules.iter().map(|rule| rule.key.clone()).zip(state.rules).collect(),
        gaps: state.gaps,
    }
}

const MAGIC: &[u8] = b"WBEA";
/// Of 0.1's snapshots whose groups had their keys and labels in places that are empty now.
const MAGIC_WITH_LABELS: &[u8] = b"WBE9";
/// Of those from before gaps were known of.
const MAGIC_WITHOUT_GAPS: &[u8] = b"WBE7";
