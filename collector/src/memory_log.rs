//! A log in memory, for tests of what stands before and behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use watchbell_rules::time::Timestamp;

use crate::wal::{AppendError, BoxFuture, Cursor, Frame, Log, NewFrame, Position, Progress};

/// Frames in a vector; positions are their indices.
#[derive(Clone)]
pub(crate) struct MemoryLog(Arc<Inner>);

struct Inner {
    identity: Option<u64>,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct State {
    frames: Vec<Frame>,
    cursors: HashMap<String, Position>,
    refuses: Option<AppendError>,
    holds: bool,
    oldest: Position,
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        Self::with_identity(None)
    }

    pub(crate) fn with_identity(identity: Option<u64>) -> Self {
        Self(Arc::new(Inner { identity, state: Mutex::default(), progress: watch::Sender::default() }))
    }

    /// Answers appends so from now on.
    pub(crate) fn refuse(&self, error: Option<AppendError>) {
        self.state().refuses = error;
    }

    /// Keeps what is appended from becoming durable, until called with `false`.
    pub(crate) fn hold(&self, holds: bool) {
        self.state().holds = holds;
        if !holds {
            self.0.progress.send_modify(|progress| progress.durable = progress.appended);
        }
    }

    /// What stands before is gone, as with a size cap.
    pub(crate) fn drop_before(&self, oldest: Position) {
        self.state().oldest = oldest;
    }

    pub(crate) fn payloads(&self) -> Vec<bytes::Bytes> {
        self.state().frames.iter().map(|frame| frame.payload.clone()).collect()
    }

    pub(crate) fn frames(&self) -> Vec<Frame> {
        self.state().frames.clone()
    }

    /// Where the cursor of that name stands.
    pub(crate) fn committed(&self, cursor: &str) -> Option<Position> {
        self.state().cursors.get(cursor).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

impl Log for MemoryLog {
    fn append(&self, frame: NewFrame) -> BoxFuture<Result<Position, AppendError>> {
        let mut state = self.state();
        if let Some(error) = state.refuses.clone() {
            return Box::pin(async { Err(error) });
        }
        let position = Position(state.frames.len() as u64);
        let next = Position(position.0 + 1);
        let NewFrame { kind, hash, event_span, records, payload } = frame;
        let received = Timestamp(position.0 as i64);
        state.frames.push(Frame {
            position,
            next,
            kind,
            received,
            ahead: Duration::ZERO,
            hash,
            event_span,
            records,
            payload,
        });
        let holds = state.holds;
        drop(state);
        self.0.progress.send_modify(|progress| {
            progress.appended = next;
            progress.durable = if holds { progress.durable } else { next };
        });
        let mut progress = self.0.progress.subscribe();
        Box::pin(async move {
            let durable = progress.wait_for(|progress| progress.durable >= next).await;
            durable.map(|_| position).map_err(|_| AppendError::Closed)
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.state().frames.len() as i64)
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    fn oldest(&self) -> Position {
        self.state().oldest
    }

    fn identity(&self, _: Position) -> Option<u64> {
        self.0.identity
    }

    fn read(&self, from: Position, bytes_max: usize) -> std::io::Result<Vec<Frame>> {
        let state = self.state();
        let mut bytes = 0;
        let frames = state.frames.iter().skip(from.max(state.oldest).0 as usize);
        let within = |frame: &&Frame| {
            let first = bytes == 0;
            bytes += frame.payload.len().max(1);
            first || bytes <= bytes_max
        };
        Ok(frames.take_while(within).cloned().collect())
    }

    fn cursor(&self, name: &str) -> std::io::Result<Box<dyn Cursor>> {
        let position = *self.state().cursors.entry(name.to_owned()).or_insert(Position(0));
        Ok(Box::new(MemoryCursor { log: self.clone(), name: name.to_owned(), position }))
    }
}

struct MemoryCursor {
    log: MemoryLog,
    name: String,
    position: Position,
}

impl Cursor for MemoryCursor {
    fn position(&self) -> Position {
        self.position
    }

    fn commit(&mut self, position: Position) -> std::io::Result<()> {
        self.position = position;
        self.log.state().cursors.insert(self.name.clone(), position);
        Ok(())
    }

    fn lost(&self) -> u64 {
        0
    }
}
