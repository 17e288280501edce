//! The whole on a simulated machine: log writer, door, evaluator, alert groups, outbox and export queue as in the collector, on a disk
//! that loses what was not synced and fails syncs, a clock that steps, and a network that loses messages and answers, with crashes
//! at any moment and clients that retry until they are answered. One seed is one story.
//!
//! A failure names its seed; `SEED=7 cargo test -p watchbell-tests simulation` tells that story alone.
//!
//! In the end, on a machine that is whole again: every acked record has reached the exporter's far end and is in the log once, every
//! burst that the log holds has paged once, and so has its end: also by a rule that came with a reload, since its window is filled from the log.
//! Computed series never go back, say the same when the log is folded again, and end. At no time is a message sent again of which the log says that it was delivered.

mod network;
mod process;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use watchbell_collector::clock::{Clock, ManualClock};
use watchbell_collector::wal::simulated_disk::SimulatedDisk;
use watchbell_collector::wal::{FrameKind, NewFrame};
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::alerting::notification::NotifyReason;
use watchbell_rules::time::Timestamp;

use self::network::Network;
use self::process::{Process, Snapshots};
use self::series::AllSeries;

const SEEDS: u64 = 200;

#[test]
fn no_acked_record_is_lost_and_no_page_missed() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        World::new(seed).live();
        return;
    }
    let mut sum = Summary::default();
    for seed in 0..SEEDS {
        let told = World::new(seed).live();
        sum.crashes += told.crashes;
        sum.disk_failures += told.disk_failures;
        sum.retries += told.retries;
        sum.pages += told.pages;
        sum.points += told.points;
        sum.reloads += told.reloads;
        sum.fills += told.fills;
    }
    // A story in which nothing happens proves nothing.
    assert!(
        sum.crashes > 2 * SEEDS
            && sum.disk_failures > SEEDS
            && sum.retries > 10 * SEEDS
            && sum.pages > 4 * SEEDS
            && sum.points > 100 * SEEDS
            && sum.reloads > 2 * SEEDS
            && sum.fills > 2 * SEEDS,
        "{sum:?}"
    );
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in [3, 77, 1234] {
        assert_eq!(World::new(seed).live(), World::new(seed).live(), "seed {seed}");
    }
}

/// What a story came to.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    crashes: u64,
    disk_failures: u64,
    retries: u64,
    pages: u64,
    points: u64,
    reloads: u64,
    /// Times that new rules were filled aside.
    fills: u64,
    /// The clock at the end.
    end: Timestamp,
}

struct World {
    seed: u64,
    random: Rng,
    clock: Arc<ManualClock>,
    disk: SimulatedDisk,
    snapshots: Snapshots,
    network: Network,
    series: AllSeries,
    batches: Vec<Batch>,
    process: Option<Process>,
    told: Summary,
}

/// One request of a client, which sends it until it is answered.
struct Batch {
    service: usize,
    bursting: u64,
    bytes: Bytes,
    state: Sending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sending {
    Waiting,
    UnderWay,
    Acked,
}

const SERVICES: usize = 8;
/// Records with `boom` within the window, beyond which a service pages.
const BOUND: u64 = 3;
const RULES: &str = r#"
groups:
  - name: simulation
    rules:
      - alert: Burst
        expr: sum by (service_name) (count_over_time({service_name=~"service-.+"} |= "boom" [1h])) > 3
        annotations: {summary: '{{ $labels.service_name }} bursts'}
      - record: booms
        expr: sum by (service_name) (count_over_time({service_name=~"service-.+"} |= "boom" [5m]))
"#;
/// Comes with the first reload and stays.
const LATER: &str = r#"
  - name: later
    rules:
      - alert: Later
        expr: sum by (service_name) (count_over_time({service_name=~"service-.+"} |= "boom" [59m])) > 3
"#;
/// Comes and goes.
const AT_TIMES: &str = r#"
  - name: at times
    rules:
      - record: fines
        expr: sum(count_over_time({service_name=~"service-.+"} |= "fine" [1m]))
      - alert: Never
        expr: sum(count_over_time({service_name=~"service-.+"}[1m])) > 1000
"#;

impl World {
    fn new(seed: u64) -> Self {
        // Segments' salts come from the thread's generator.
        fastrand::seed(seed);
        let mut world = Self {
            seed,
            random: Rng::with_seed(seed),
            clock: ManualClock::at(Timestamp(1_700_000_000_000_000_000)),
            disk: SimulatedDisk::new(seed),
            snapshots: Snapshots::default(),
            network: Network::new(seed),
            series: AllSeries::default(),
            batches: Vec::new(),
            process: None,
            told: Summary::default(),
        };
        world.start();
        world.process().load_rules(RULES);
        world.process().write();
        world.process().sync();
        world
    }

    fn live(mut self) -> Summary {
        for _ in 0..1500 {
            self.step();
        }
        self.heal();
        self.check_batches();
        self.check_pages();
        self.series.check_ended(self.seed);
        self.told.points = self.series.len();
        self.told.end = self.clock.now();
        self.told
    }

    /// One thing that happens next.
    fn step(&mut self) {
        match self.random.u32(..1000) {
            0..100 => self.send_batch(),
            100..250 => self.take_answers(),
            250..400 => self.process().write(),
            400..480 => self.process().sync(),
            480..500 => self.fill(),
            500..700 => self.evaluate(),
            700..800 => self.export(),
            800..900 => self.receive_results(),
            900..920 => self.process().snapshot(),
            920..930 => self.process().save_cursors(),
            930..935 => self.reload(),
            935..980 => self.clock.advance(Duration::from_millis(self.random.u64(..3000))),
            980..985 => self.step_clock(),
            985..995 => self.fail_disk(),
            995..998 => self.crash(),
            _ => self.kill(),
        }
    }

    /// The next sync, write or new file fails.
    fn fail_disk(&mut self) {
        self.told.disk_failures += 1;
        match self.random.u32(..4) {
            0 => self.disk.fail_writes(1),
            1 => self.disk.fail_creates(1),
            _ => self.disk.fail_syncs(1),
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    fn start(&mut self) {
        let process = Process::start(&self.disk, &self.clock, &self.snapshots, self.random.u64(..));
        self.process = Some(process);
    }

    fn reload(&mut self) {
        self.told.reloads += 1;
        let at_times = if self.random.bool() { AT_TIMES } else { "" };
        self.process().load_rules(&format!("{RULES}{LATER}{at_times}"));
    }

    /// Power cut.
    fn crash(&mut self) {
        self.stop();
        self.disk.crash();
        self.start();
    }

    /// `kill -9`: what was written stays, also what was not synced.
    fn kill(&mut self) {
        self.stop();
        self.start();
    }

    /// Nobody listens for a while, now and then.
    fn stop(&mut self) {
        self.told.crashes += 1;
        self.process = None;
        self.clock.advance(Duration::from_secs(self.random.u64(..2) * self.random.u64(..AWAY_SECONDS)));
        self.series.fold_again();
        self.disk.fail_nothing();
        self.network.lose_answers();
        for batch in self.batches.iter_mut().filter(|batch| batch.state == Sending::UnderWay) {
            batch.state = Sending::Waiting;
        }
    }

    /// The wall clock is set, up to five seconds either way.
    fn step_clock(&mut self) {
        let by = self.random.i64(-5_000_000_000..5_000_000_000);
        self.clock.step(Timestamp(self.clock.now().0 + by));
    }

    /// A client sends a new batch, or an old one again.
    fn send_batch(&mut self) {
        let waiting: Vec<_> = (0..self.batches.len()).filter(|i| self.batches[*i].state == Sending::Waiting).collect();
        let again =
            (self.random.bool() || self.batches.len() >= BATCHES_MAX).then(|| self.random.choice(waiting)).flatten();
        self.told.retries += u64::from(again.is_some());
        let number = match again {
            Some(number) => number,
            None if self.batches.len() < BATCHES_MAX => self.new_batch(),
            None => return,
        };
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let frame = self.batches[number].frame(number);
        self.batches[number].state = Sending::UnderWay;
        self.process().append(number, frame);
    }

    fn new_batch(&mut self) -> usize {
        let number = self.batches.len();
        let service = self.random.usize(..SERVICES);
        // Some services burst, some stay just below the bound.
        let bursting = if service.is_multiple_of(2) { self.random.u64(..3) } else { u64::from(number < SERVICES) };
        let bytes = request(service, number, bursting, 1 + self.random.u64(..3), self.clock.now());
        self.batches.push(Batch { service, bursting, bytes, state: Sending::Waiting });
        number
    }

    /// The server has answered some clients; a third of the answers are lost.
    fn take_answers(&mut self) {
        for (number, acked) in self.process().take_answers() {
            let arrives = acked && self.random.u32(..3) > 0;
            self.batches[number].state = if arrives { Sending::Acked } else { Sending::Waiting };
        }
    }

    fn evaluate(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        if process.fold(1 + self.random.usize(..2000), &self.snapshots) {
            self.series.fold_again();
        }
        for notification in process.sends(&mut self.series) {
            assert!(!process.knows_delivered(&notification.key), "seed {}: sent again: {notification:?}", self.seed);
            self.network.send_page(notification);
        }
        process.store_snapshot(&mut self.snapshots);
    }

    fn export(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        for request in process.exports(1 + self.random.usize(..2000)) {
            self.network.send_export(request);
        }
    }

    fn fill(&mut self) {
        self.told.fills += u64::from(self.process().fill());
    }

    fn receive_results(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        self.network.deliver(process);
    }

    /// Nothing fails any more; goes on until nothing is left to do, and the bursts have been over for long. All that time the wall clock is
    /// behind where it was: the log's clock runs at half the speed.
    fn heal(&mut self) {
        self.network.heal();
        self.disk.fail_nothing();
        self.process().load_rules(&format!("{RULES}{LATER}"));
        self.clock.step(self.clock.now() - Duration::from_secs(3 * 3600));
        let quiet = self.clock.now() + Duration::from_secs(9000);
        let (mut idle, mut rounds) = (0, 0);
        while self.clock.now() < quiet || idle < 3 {
            rounds += 1;
            assert!(rounds < HEALING_ROUNDS_MAX, "never idle again: {}", self.process().waits_for());
            let is_idle = self.round();
            idle = if is_idle { idle + 1 } else { 0 };
            self.clock.advance(if is_idle { Duration::from_secs(10) } else { Duration::from_millis(100) });
        }
    }

    /// Everything once; tells whether there was nothing to do.
    fn round(&mut self) -> bool {
        let waiting = self.batches.iter().position(|batch| batch.state == Sending::Waiting);
        if let Some(number) = waiting {
            self.send(number);
        }
        self.process().write();
        self.process().sync();
        for (number, acked) in self.process().take_answers() {
            self.batches[number].state = if acked { Sending::Acked } else { Sending::Waiting };
        }
        self.fill();
        self.evaluate();
        self.export();
        self.receive_results();
        waiting.is_none() && self.process().is_idle()
    }

    fn check_batches(&mut self) {
        let seed = self.seed;
        let mut in_log = BTreeMap::<Bytes, u64>::new();
        for payload in self.process().batches() {
            *in_log.entry(payload).or_default() += 1;
        }
        assert_eq!(in_log.len(), self.batches.len(), "seed {seed}");
        for (number, batch) in self.batches.iter().enumerate() {
            assert_eq!(batch.state, Sending::Acked, "seed {seed}: batch {number}");
            assert_eq!(in_log.get(&batch.bytes), Some(&1), "seed {seed}: batch {number} in the log");
            assert!(self.network.exported.contains(&batch.bytes), "seed {seed}: batch {number} not exported");
        }
    }

    fn check_pages(&mut self) {
        let seed = self.seed;
        for service in 0..SERVICES {
            let of_service = self.batches.iter().filter(|batch| batch.service == service);
            let bursting: u64 = of_service.map(|batch| batch.bursting).sum();
            let expected = usize::from(bursting > BOUND);
            for alert in ["Burst", "Later"] {
                let pages = self.network.pages_of(alert, &service_name(service));
                for reason in [NotifyReason::FirstNotification, NotifyReason::AllAlertsResolved] {
                    let told = pages.iter().filter(|page| page.reason == reason);
                    let keys: BTreeSet<_> = told.map(|page| &page.key).collect();
                    assert_eq!(
                        keys.len(),
                        expected,
                        "seed {seed}: {reason:?} {alert} of {service} with {bursting}: {pages:?}"
                    );
                }
                self.told.pages += expected as u64;
            }
        }
    }
}

/// Long enough for a gap, and short enough that a story stays within the rules' windows.
const AWAY_SECONDS: u64 = 120;
/// It takes some 2,000.
const HEALING_ROUNDS_MAX: u32 = 20_000;
/// Requests that the clients send in all.
const BATCHES_MAX: usize = 40;

impl Batch {
    fn frame(&self, number: usize) -> NewFrame {
        let (hash, payload) = (number as u64 + 1, self.bytes.clone());
        NewFrame { kind: FrameKind::Batch, hash, event_span: None, records: 1, payload }
    }
}

fn service_name(service: usize) -> String {
    format!("service-{service}")
}

/// A request of `bursting` records that the rule counts and `others` that it does not.
fn request(service: usize, number: usize, bursting: u64, others: u64, now: Timestamp) -> Bytes {
    let name = service_name(service);
    let resource = encode::resource([("service.name", AnyValue::String(&name))]);
    let mut out = Vec::new();
    encode::put_resource_logs(&mut out, &resource, |out| {
        encode::put_scope_logs(out, &encode::scope("simulation", ""), |out| {
            for i in 0..bursting + others {
                let word = if i < bursting { "boom" } else { "fine" };
                encode::put_log_record(out, |record| {
                    record.time_unix_nano(now.0 as u64 + i);
                    record.severity_number(17);
                    record.body_fmt(format_args!("{word} {number}.{i}"));
                });
            }
        });
    });
    out.into()
}
