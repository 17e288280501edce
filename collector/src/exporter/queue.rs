//! What an exporter has read of a log and not yet delivered: a state machine without sockets, tasks or clocks.
//!
//! Frames go in by [`handle_frames`](Queue::handle_frames) in log order, small ones joined up to a request's size; requests come out
//! by [`poll_send`](Queue::poll_send), several at a time; [`poll_commit`](Queue::poll_commit) moves on only past requests that are done,
//! in log order. A failure that may pass holds back the whole queue: all requests go to one endpoint, so what ails
//! one ails the next. While it lasts one request at a time tries the endpoint, always the oldest.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use watchbell_proto::otlp::{Signal, split_at};
use watchbell_rules::time::Timestamp;

use crate::config::duration;
use crate::wal::{Frame, FrameKind, Position};

/// `sending_queue:` of an exporter. The queue itself is the log: on disk, and as long as that reaches back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "QueueConfig")]
pub struct Config {
    /// Requests under way at one time. Default 4.
    pub num_consumers: usize,
    /// Frames are joined into requests of up to this size; a larger frame goes alone. Default 1 MiB.
    pub request_bytes_max: usize,
    /// What is read ahead of delivery; at it reading waits. Default 8 MiB.
    #[serde(deserialize_with = "crate::config::range::positive")]
    pub queue_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { num_consumers: 4, request_bytes_max: 1 << 20, queue_bytes_max: 8 << 20 }
    }
}

/// `retry_on_failure:` of an exporter, as the OpenTelemetry Collector spells it.
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Whether what failed for a while is sent again. Default true.
    pub enabled: bool,
    /// The wait after the first failure. Default 1 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub initial_interval: Duration,
    /// The longest wait. Default 30 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_interval: Duration,
    /// How much longer each wait is than the one before. Default 1.5.
    pub multiplier: f64,
    /// Waits are longer or shorter by up to this part, so that not all clients come at once. Default 0.5.
    pub randomization_factor: f64,
    /// How long one request is tried before it is given up and counted; 0 never gives up, which is the default here: the log holds
    /// the data as long as its size allows.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_elapsed_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(30),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_elapsed_time: Duration::ZERO,
        }
    }
}

/// What is to be sent. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the request in [`Queue::handle_result`].
    pub id: u64,
    /// Payloads of whole frames; one after the other they are one OTLP request.
    pub payloads: Vec<Payload>,
}

/// A frame's payload: an OTLP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The protobuf.
    pub bytes: Bytes,
    /// Log records, spans or data points in it.
    pub records: u32,
    /// When it was received; of computed samples, their stamp.
    pub received: Timestamp,
}

impl Request {
    /// Log records, spans or data points in it.
    pub fn records(&self) -> u64 {
        self.payloads.iter().map(|payload| u64::from(payload.records)).sum()
    }

    /// Its size before compression.
    pub fn bytes(&self) -> usize {
        self.payloads.iter().map(|payload| payload.bytes.len()).sum()
    }
}

/// How sending a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// The endpoint has it, but for so many records that it refused (`partial_success`).
    Delivered {
        /// Records that the endpoint refused.
        rejected: u64,
    },
    /// It may go better later, at the soonest after so long.
    Retryable {
        /// What the endpoint asked to wait.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
    },
    /// The endpoint took some of its records, refused others for good, and did not say how many.
    PartlyRefused {
        /// What it said.
        reason: String,
    },
    /// The endpoint has had it before: it was computed again.
    Replayed,
    /// It will never be taken.
    Permanent {
        /// What went wrong.
        reason: String,
    },
    /// Not as one request: it is larger than the endpoint takes, or a part of it is what the endpoint refuses.
    Split {
        /// What went wrong.
        reason: String,
    },
}

/// Something to count and to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many records have arrived.
    Sent {
        /// Records.
        records: u64,
    },
    /// So many records are lost.
    Dropped {
        /// Records.
        records: u64,
        /// What went wrong.
        reason: String,
    },
    /// Of so many records the endpoint refused some, it did not say how many.
    PartlyRefused {
        /// Records.
        records: u64,
        /// What it said.
        reason: String,
    },
    /// So many samples were there before.
    Replayed {
        /// Samples.
        records: u64,
    },
    /// A request waits for another try.
    Retrying {
        /// What went wrong.
        reason: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    config: Config,
    retry: RetryConfig,
    random: fastrand::Rng,
    /// In log order; those that are done leave at the front.
    entries: VecDeque<Entry>,
    events: VecDeque<Event>,
    next_id: u64,
    read: Position,
    committed: Position,
    in_flight: usize,
    bytes: usize,
    failures: u32,
    paused_until: Option<Timestamp>,
    /// Whose requests the payloads are, where a single one can be split.
    signal: Option<Signal>,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    /// Where the log goes on behind it.
    end: Position,
    state: State,
    first_sent: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    InFlight,
    Done,
}

impl Queue {
    /// A queue that goes on at `position`; `seed` decides the jitter.
    pub fn new(config: Config, retry: RetryConfig, position: Position, seed: u64) -> Self {
        Self {
            config,
            retry,
            random: fastrand::Rng::with_seed(seed),
            entries: VecDeque::new(),
            events: VecDeque::new(),
            next_id: 0,
            read: position,
            committed: position,
            in_flight: 0,
            bytes: 0,
            failures: 0,
            paused_until: None,
            signal: None,
        }
    }

    /// Payloads are requests of that signal: one that an endpoint does not take as a whole is sent as two.
    #[must_use]
    pub fn of(self, signal: Signal) -> Self {
        Self { signal: Some(signal), ..self }
    }

    /// Where to read on and how much, if there is room for more.
    pub fn poll_read(&self) -> Option<(Position, usize)> {
        let room = self.config.queue_bytes_max.saturating_sub(self.bytes);
        (room > 0).then_some((self.read, room.min(READ_BYTES_MAX)))
    }

    /// Takes the frames that follow those taken before.
    pub fn handle_frames(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.read = frame.next;
            if frame.kind == FrameKind::Batch {
                self.take(frame);
            }
        }
    }

    /// The next request to send, if one may be sent now.
    pub fn poll_send(&mut self, now: Timestamp) -> Option<Request> {
        let in_flight_max = if self.failures > 0 { 1 } else { self.config.num_consumers.max(1) };
        if self.in_flight >= in_flight_max || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let entry = self.entries.iter_mut().find(|entry| entry.state == State::Ready)?;
        entry.state = State::InFlight;
        entry.first_sent.get_or_insert(now);
        self.in_flight += 1;
        Some(entry.request.clone())
    }

    /// Takes how a request ended.
    pub fn handle_result(&mut self, id: u64, result: SendResult, now: Timestamp) {
        let Some(at) = self.entries.iter().position(|entry| entry.request.id == id && entry.state == State::InFlight)
        else {
            return;
        };
        self.in_flight -= 1;
        match result {
            SendResult::Delivered { rejected } => {
                self.failures = 0;
                self.finish(at, rejected, "the endpoint refused single records (partial success)".to_owned());
            }
            SendResult::PartlyRefused { reason } => {
                self.failures = 0;
                let records = self.settle(at);
                self.events.push_back(Event::PartlyRefused { records, reason });
            }
            SendResult::Replayed => {
                self.failures = 0;
                let records = self.settle(at);
                self.events.push_back(Event::Replayed { records });
            }
            SendResult::Permanent { reason } => {
                self.failures = 0;
                self.finish(at, u64::MAX, reason);
            }
            SendResult::Split { reason } => {
                self.failures = 0;
                self.split(at, reason);
            }
            SendResult::Retryable { after, reason } => self.try_again(at, after, reason, now),
        }
    }

    /// When [`poll_send`](Self::poll_send) is worth asking again, if time alone can change its answer.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.paused_until
    }

    /// Ends a pause that is over.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How far everything is done, if that is farther than when last asked.
    pub fn poll_commit(&mut self) -> Option<Position> {
        let mut end = self.committed;
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            end = end.max(self.entries.pop_front().map_or(end, |entry| entry.end));
        }
        if self.entries.is_empty() {
            end = self.read; // frames that are no batches
        }
        let moved = end > self.committed;
        self.committed = self.committed.max(end);
        moved.then_some(end)
    }

    /// Whether everything that was taken is done.
    pub fn is_idle(&self) -> bool {
        self.entries.iter().all(|entry| entry.state == State::Done)
    }

    /// Whether the endpoint failed when last asked.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// What is held in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, frame: Frame) {
        let bytes = frame.payload.len();
        self.bytes += bytes;
        let payload = Payload { bytes: frame.payload, records: frame.records, received: frame.received };
        let last = self.entries.back_mut().filter(|last| last.state == State::Ready && last.first_sent.is_none());
        if let Some(last) = last.filter(|last| last.request.bytes() + bytes <= self.config.request_bytes_max) {
            last.request.payloads.push(payload);
            last.end = frame.next;
            return;
        }
        let request = Request { id: self.id(), payloads: vec![payload] };
        self.entries.push_back(Entry { request, end: frame.next, state: State::Ready, first_sent: None });
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn finish(&mut self, at: usize, lost: u64, reason: String) {
        let records = self.settle(at);
        let lost = lost.min(records);
        if records > lost {
            self.events.push_back(Event::Sent { records: records - lost });
        }
        if lost > 0 {
            self.events.push_back(Event::Dropped { records: lost, reason });
        }
    }

    /// Lets go of a request's bytes; tells how many records it had.
    fn settle(&mut self, at: usize) -> u64 {
        let entry = &mut self.entries[at];
        let records = entry.request.records();
        self.bytes -= entry.request.bytes();
        entry.state = State::Done;
        entry.request.payloads = Vec::new();
        records
    }

    fn try_again(&mut self, at: usize, after: Option<Duration>, reason: String, now: Timestamp) {
        let entry = &mut self.entries[at];
        let tried = now.since(entry.first_sent.unwrap_or(now));
        let over = !self.retry.max_elapsed_time.is_zero() && tried >= self.retry.max_elapsed_time;
        if over || !self.retry.enabled {
            return self.finish(at, u64::MAX, reason);
        }
        entry.state = State::Ready;
        self.events.push_back(Event::Retrying { reason });
        // Requests that were under way together fail together: that counts once.
        let mut wait = after.unwrap_or_default().min(RETRY_AFTER_MAX);
        if self.paused_until.is_none_or(|until| until <= now) {
            wait = wait.max(self.backoff());
            self.failures = self.failures.saturating_add(1);
        }
        self.paused_until = self.paused_until.max(Some(now + wait));
    }

    fn backoff(&mut self) -> Duration {
        let factor = self.retry.multiplier.max(1.0).powi(self.failures.min(1000) as i32);
        let longest = self.retry.max_interval.as_secs_f64();
        let seconds = (self.retry.initial_interval.as_secs_f64() * factor).min(longest);
        let jitter = self.retry.randomization_factor.clamp(0.0, 1.0) * (2.0 * self.random.f64() - 1.0);
        Duration::try_from_secs_f64(seconds * (1.0 + jitter)).unwrap_or(self.retry.max_interval)
    }

    /// Sends a request as two, or drops it where it is one record. The second half takes its place in the log's order.
    fn split(&mut self, at: usize, reason: String) {
        if self.entries[at].request.payloads.len() == 1 {
            self.split_payload(at);
        }
        let second = self.id();
        let entry = &mut self.entries[at];
        if entry.request.payloads.len() < 2 {
            return self.finish(at, u64::MAX, reason);
        }
        let payloads = entry.request.payloads.split_off(entry.request.payloads.len() / 2);
        entry.state = State::Ready;
        let request = Request { id: second, payloads };
        let second = Entry { request, end: entry.end, state: State::Ready, first_sent: entry.first_sent };
        entry.end = Position(0); // the second half decides
        self.entries.insert(at + 1, second);
    }

    /// Makes two payloads of a request's only one, if it has several records.
    fn split_payload(&mut self, at: usize) {
        let request = &mut self.entries[at].request;
        let payload = &request.payloads[0];
        let (Some(signal), 2..) = (self.signal, payload.records) else { return };
        let first = payload.records / 2;
        let parts = split_at(signal, &payload.bytes, u64::from(first));
        let (bytes_before, received) = (payload.bytes.len(), payload.received);
        let records = [first, payload.records - first];
        let part = |(bytes, records): (Vec<u8>, u32)| Payload { bytes: bytes.into(), records, received };
        request.payloads = parts.into_iter().zip(records).map(part).collect();
        self.bytes = self.bytes - bytes_before + request.bytes();
    }
}

/// What is read of the log at a time.
const READ_BYTES_MAX: usize = 1 << 20;
/// An endpoint that asks for more is asked again sooner.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_frames_are_joined_and_large_ones_go_alone() {
        let mut queue = queue(RetryConfig::default());
        queue.handle_frames(frames(&[40, 40, 40, 500, 10]));
        assert_eq!(sizes(&queue.poll_send(NOW).unwrap()), [40, 40]);
        assert_eq!(sizes(&queue.poll_send(NOW).unwrap()), [40]);
        assert_eq!(queue.poll_send(NOW), None, "two at a time");
    }

    #[test]
    fn a_request_under_way_does_not_grow() {
        let mut queue = queue(RetryConfig::default());
        queue.handle_frames(frames(&[10]));
        let request = queue.poll_send(NOW).unwrap();
        queue.handle_result(request.id, retryable(None), NOW);
        queue.handle_frames(frames(&[10]));
        assert_eq!(sizes(&queue.poll_send(NOW + HOUR).unwrap()), [10]);
    }

    #[test]
    fn it_commits_in_log_order_and_past_frames_that_are_no_batches() {
        let mut queue = queue(RetryConfig::default());
        queue.handle_frames(frames(&[100, 100]));
        let (first, second) = (queue.poll_send(NOW).unwrap(), queue.poll_send(NOW).unwrap());
        queue.handle_result(second.id, delivered(), NOW);
        assert_eq!(queue.poll_commit(), None);
        queue.handle_result(first.id, delivered(), NOW);
        assert_eq!(queue.poll_commit(), Some(Position(2)));
        let clock = Frame { kind: FrameKind::Clock, position: Position(2), next: Position(3), ..frame(0) };
        queue.handle_frames(vec![clock]);
        assert_eq!((queue.poll_commit(), queue.poll_commit()), (Some(Position(3)), None));
    }

    #[test]
    fn failures_wait_longer_each_time_and_one_request_tries() {
        let mut queue = queue(RetryConfig { randomization_factor: 0.0, ..RetryConfig::default() });
        queue.handle_frames(frames(&[100, 100, 100]));
        let (first, second) = (queue.poll_send(NOW).unwrap(), queue.poll_send(NOW).unwrap());
        queue.handle_result(first.id, retryable(None), NOW);
        queue.handle_result(second.id, retryable(None), NOW);
        let mut now = NOW;
        for seconds in [1.0, 1.5, 2.25] {
            let until = queue.poll_timeout().unwrap();
            assert_eq!(until, now + Duration::from_secs_f64(seconds));
            assert_eq!(queue.poll_send(until - Duration::from_nanos(1)), None);
            now = until;
            let request = queue.poll_send(now).unwrap();
            assert_eq!((request.id, queue.poll_send(now)), (first.id, None));
            queue.handle_result(request.id, retryable(None), now);
        }
        now = queue.poll_timeout().unwrap();
        queue.handle_timeout(now);
        assert_eq!(queue.poll_timeout(), None);
        let request = queue.poll_send(now).unwrap();
        queue.handle_result(request.id, delivered(), now);
        assert!(queue.poll_send(now).is_some() && queue.poll_send(now).is_some(), "both again");
    }

    #[test]
    fn the_endpoint_s_wait_counts_where_it_is_longer() {
        let mut queue = queue(RetryConfig::default());
        queue.handle_frames(frames(&[100]));
        let request = queue.poll_send(NOW).unwrap();
        queue.handle_result(request.id, retryable(Some(HOUR / 12)), NOW);
        assert_eq!(queue.poll_timeout(), Some(NOW + HOUR / 12));
    }

    #[test]
    fn what_is_given_up_is_counted() {
        let mut queue = queue(RetryConfig { max_elapsed_time: Duration::from_secs(10), ..RetryConfig::default() });
        queue.handle_frames(frames(&[100]));
        let request = queue.poll_send(NOW).unwrap();
        queue.handle_result(request.id, retryable(None), NOW);
        let later = NOW + Duration::from_secs(10);
        queue.handle_result(queue.next_id, retryable(None), later);
        let request = queue.poll_send(later).unwrap();
        queue.handle_result(request.id, retryable(None), later);
        let events: Vec<_> = std::iter::from_fn(|| queue.poll_event()).collect();
        assert_eq!(
            events,
            [Event::Retrying { reason: "down".to_owned() }, Event::Dropped { records: 1, reason: "down".to_owned() }]
        );
        assert_eq!((queue.poll_commit(), queue.bytes()), (Some(Position(1)), 0));
    }

    #[test]
    fn a_request_that_is_too_large_is_halved_until_it_is_one_frame() {
        let mut queue = queue(RetryConfig::default());
        queue.handle_frames(frames(&[30, 30, 30]));
        let mut sent = Vec::new();
        while let Some(request) = queue.poll_send(NOW) {
            sent.push(sizes(&request));
            let result = match request.payloads.len() {
                1 if sent.len() > 4 => SendResult::Split { reason: "large".to_owned() },
                1 => delivered(),
                _ => SendResult::Split { reason: "large".to_owned() },
            };
            queue.handle_result(request.id, result, NOW);
        }
        assert_eq!(sent, [vec![30; 3], vec![30], vec![30; 2], vec![30], vec![30]]);
        let lost =
            std::iter::from_fn(|| queue.poll_event()).filter(|event| matches!(event, Event::Dropped { .. })).count();
        assert_eq!((lost, queue.poll_commit(), queue.is_idle()), (1, Some(Position(3)), true));
    }

    proptest! {
        /// Whatever the endpoint answers: nothing is skipped, nothing is committed before it is done, and in the end all is.
        #[test]
        fn every_frame_is_delivered_or_counted(sizes: Vec<u8>, answers in proptest::collection::vec(0..6u8, 0..100)) {
            let mut queue = queue(RetryConfig::default());
            let (mut now, mut fed, mut done, mut counted) = (NOW, 0, 0, 0);
            let mut under_way: VecDeque<Request> = VecDeque::new();
            let mut settled = vec![false; sizes.len()];
            // In the end the endpoint is well.
            for answer in answers.into_iter().chain(std::iter::repeat_n(0, sizes.len() * 4 + 10)) {
                if fed < sizes.len() && queue.poll_read().is_some() {
                    queue.handle_frames(vec![Frame { position: Position(fed as u64), next: Position(fed as u64 + 1), ..marked(fed, sizes[fed]) }]);
                    fed += 1;
                }
                under_way.extend(std::iter::from_fn(|| queue.poll_send(now)));
                prop_assert!(under_way.len() <= 2);
                let next = if answer % 2 == 0 { under_way.pop_front() } else { under_way.pop_back() };
                let Some(request) = next else { now = now + Duration::from_secs(60); continue };
                let single = request.payloads.len() == 1;
                let result = match answer {
                    0 | 1 => delivered(),
                    2 => SendResult::Permanent { reason: String::new() },
                    3 => SendResult::Split { reason: String::new() },
                    _ => retryable(None),
                };
                if answer < 3 || (answer == 3 && single) {
                    request.payloads.iter().for_each(|payload| settled[mark(payload)] = true);
                }
                queue.handle_result(request.id, result, now);
                if let Some(position) = queue.poll_commit() {
                    done = position.0 as usize;
                    prop_assert!(settled[..done].iter().all(|settled| *settled));
                }
                while let Some(event) = queue.poll_event() {
                    counted += match event {
                        Event::Sent { records } | Event::Dropped { records, .. } => records as usize,
                        Event::PartlyRefused { .. } | Event::Replayed { .. } | Event::Retrying { .. } => 0,
                    };
                }
            }
            prop_assert_eq!((done, counted, queue.bytes()), (sizes.len(), sizes.len(), 0));
        }
    }

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn queue(retry: RetryConfig) -> Queue {
        let config = Config { num_consumers: 2, request_bytes_max: 100, queue_bytes_max: 1000 };
        Queue::new(config, retry, Position(0), 1)
    }

    fn frames(sizes: &[usize]) -> Vec<Frame> {
        let frame = |(i, size): (usize, &usize)| Frame {
            position: Position(i as u64),
            next: Position(i as u64 + 1),
            ..frame(*size)
        };
        sizes.iter().enumerate().map(frame).collect()
    }

    fn frame(size: usize) -> Frame {
        Frame {
            position: Position(0),
            next: Position(1),
            kind: FrameKind::Batch,
            received: NOW,
            ahead: Duration::ZERO,
            hash: 0,
            event_span: None,
            records: 1,
            payload: vec![b'x'; size].into(),
        }
    }

    fn marked(index: usize, size: u8) -> Frame {
        let mut payload = (index as u32).to_be_bytes().to_vec();
        payload.resize(4 + usize::from(size), 0);
        Frame { payload: payload.into(), ..frame(0) }
    }

    fn mark(payload: &Payload) -> usize {
        u32::from_be_bytes(payload.bytes[..4].try_into().unwrap()) as usize
    }

    fn sizes(request: &Request) -> Vec<usize> {
        request.payloads.iter().map(|payload| payload.bytes.len()).collect()
    }

    fn delivered() -> SendResult {
        SendResult::Delivered { rejected: 0 }
    }

    fn retryable(after: Option<Duration>) -> SendResult {
        SendResult::Retryable { after, reason: "down".to_owned() }
    }
}
