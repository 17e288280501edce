use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite_poll::now;
use proptest::prelude::*;
use watchbell_rules::time::Timestamp;

use super::disk::Disk;
use super::simulated_disk::SimulatedDisk;
use super::*;
use crate::clock::ManualClock;

type Answer = BoxFuture<Result<Position, AppendError>>;

/// A log on a simulated disk, driven by hand.
struct Machine {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    config: WalConfig,
    log: Option<(Wal<SimulatedDisk>, WalWriter<SimulatedDisk>)>,
    metrics: Metrics,
}

impl Machine {
    fn new(seed: u64, config: WalConfig) -> Self {
        let (disk, clock) = (SimulatedDisk::new(seed), ManualClock::at(Timestamp(1_000)));
        let mut machine = Self { disk, clock, config, log: None, metrics: Metrics::default() };
        machine.open();
        machine
    }

    fn small(seed: u64) -> Self {
        Self::new(seed, small_config())
    }

    fn open(&mut self) {
        self.log = None;
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        self.log = Some(Wal::open_on(disk, "logs", self.config.clone(), clock, &self.metrics).unwrap());
    }

    fn crash(&mut self) {
        self.log = None;
        self.disk.crash();
        self.open();
    }

    fn wal(&self) -> &Wal<SimulatedDisk> {
        &self.log.as_ref().unwrap().0
    }

    fn writer(&mut self) -> &mut WalWriter<SimulatedDisk> {
        &mut self.log.as_mut().unwrap().1
    }

    fn append(&self, payload: &str) -> Answer {
        self.wal().append(new_frame(payload))
    }

    fn sync(&mut self) {
        while self.writer().write() {
            self.writer().sync();
        }
    }

    /// Appends frames, each durable before the next.
    fn append_all<'a>(&mut self, payloads: impl IntoIterator<Item = &'a str>) -> Vec<Position> {
        let each = payloads.into_iter().map(|payload| {
            let mut answer = self.append(payload);
            self.sync();
            now(&mut answer).unwrap().unwrap()
        });
        each.collect()
    }

    fn payloads(&self) -> Vec<String> {
        payloads(self.wal())
    }
}

fn small_config() -> WalConfig {
    WalConfig { segment_bytes: 12 << 10, bytes_max: 64 << 10, pending_bytes_max: 8 << 10, tail_cache_bytes_max: 600 }
}

fn new_frame(payload: &str) -> NewFrame {
    NewFrame {
        kind: FrameKind::Batch,
        hash: payload.len() as u64,
        event_span: Some((Timestamp(1), Timestamp(2))),
        records: 2,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

fn payloads(log: &dyn Log) -> Vec<String> {
    frames(log).iter().map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect()
}

/// All frames, read in small batches.
fn frames(log: &dyn Log) -> Vec<Frame> {
    let (mut from, mut all) = (Position::default(), Vec::<Frame>::new());
    loop {
        let batch = log.read(from, 200).unwrap();
        let Some(last) = batch.last() else { return all };
        from = last.next;
        all.extend(batch);
    }
}

/// Polls a future once.
mod futures_lite_poll {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    pub(super) fn now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}

#[test]
fn frames_are_seen_when_written_and_answered_when_synced() {
    let mut machine = Machine::small(1);
    let mut answer = machine.append("one");
    assert_eq!(machine.payloads(), Vec::<String>::new());

    assert!(machine.writer().write());
    let progress = machine.wal().progress();
    assert_eq!(machine.payloads(), ["one"]);
    assert!(progress.borrow().durable < progress.borrow().appended);
    assert_eq!(now(&mut answer), None);

    machine.writer().sync();
    let frame = frames(machine.wal()).remove(0);
    assert_eq!(now(&mut answer), Some(Ok(frame.position)));
    assert_eq!(*progress.borrow(), Progress { appended: frame.next, durable: frame.next, failures: 0 });
    assert_eq!((frame.kind, frame.hash, frame.records), (FrameKind::Batch, 3, 2));
    assert_eq!((frame.received, frame.event_span), (Timestamp(1_000), Some((Timestamp(1), Timestamp(2)))));
}

#[test]
fn one_sync_serves_all_that_waited() {
    let mut machine = Machine::small(1);
    let mut answers: Vec<_> = ["a", "b", "c"].map(|payload| machine.append(payload)).into();
    machine.sync();
    assert!(answers.iter_mut().all(|answer| matches!(now(answer), Some(Ok(_)))));
    assert_eq!(machine.disk.syncs(), 1);
}

#[test]
fn receive_times_go_on_over_steps_and_restarts() {
    let mut machine = Machine::small(1);
    machine.append_all(["a"]);
    machine.clock.step(Timestamp(10));
    machine.append_all(["b"]);
    machine.clock.advance(Duration::from_nanos(50));
    machine.append_all(["c"]);
    machine.crash();
    machine.append_all(["d"]);
    machine.clock.advance(Duration::from_nanos(50));
    assert_eq!(machine.wal().now(), Timestamp(1_050));
    machine.append_all(["e"]);
    machine.clock.advance(Duration::from_nanos(1_000));
    machine.append_all(["f"]);
    let received: Vec<_> = frames(machine.wal()).iter().map(|frame| frame.received.0).collect();
    assert_eq!(received, [1_000, 1_000, 1_025, 1_025, 1_050, 1_550]);
}

#[test]
fn a_frame_says_by_how_much_the_wall_clock_was_set_back() {
    let mut machine = Machine::new(1, WalConfig { tail_cache_bytes_max: 1 << 20, ..small_config() });
    for millis in [40_000_000_000, 39_999_989_500, 39_999_998_500, 10_000_000_000, 40_000_000_000] {
        machine.clock.step(Timestamp(millis * 1_000_000));
        machine.append_all(["a"]);
    }
    let ahead =
        |machine: &Machine| frames(machine.wal()).iter().map(|frame| frame.ahead.as_nanos()).collect::<Vec<_>>();
    let from_memory = ahead(&machine);
    machine.crash();
    assert_eq!(ahead(&machine), from_memory);
    assert_eq!(from_memory, [0, 10, 1, (1 << 24) - 1, 0].map(|seconds| seconds * 1_000_000_000));
}

#[test]
fn a_place_tells_its_log_from_others_that_have_it_too() {
    let (mut machine, mut other) = (Machine::small(1), Machine::small(1));
    let position = machine.append_all(["a"])[0];
    let identity = machine.wal().identity(position);
    assert!(identity.is_some());
    machine.crash();
    assert_eq!(machine.wal().identity(position), identity);
    assert_eq!(other.append_all(["a"]), [position]);
    assert_ne!(other.wal().identity(position), identity);
    assert_eq!(machine.wal().identity(Position(u64::MAX)), None);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let mut machine = Machine::small(1);
    let large = "x".repeat(5000);
    let mut first = machine.append(&large);
    assert_eq!(now(&mut machine.append(&large)), Some(Err(AppendError::Full)));
    machine.sync();
    assert!(matches!(now(&mut first), Some(Ok(_))));
    machine.append_all([large.as_str()]);
}

#[test]
fn a_frame_larger_than_a_segment_gets_a_segment_of_its_size() {
    let mut machine = Machine::small(1);
    let large = "x".repeat(20_000);
    machine.append_all(["before", &large, "after"]);
    let Some(Err(AppendError::TooLarge { bytes_max })) = now(&mut machine.append(&"x".repeat(64 << 10))) else {
        panic!("it was taken");
    };
    machine.crash();
    assert_eq!(machine.payloads(), ["before", &large, "after"]);
    let largest = "x".repeat(bytes_max);
    assert!(now(&mut machine.append(&(largest.clone() + "x"))).is_some(), "one more is refused at once");
    machine.append_all([largest.as_str()]);
    machine.crash();
    assert_eq!(machine.payloads().last(), Some(&largest));
}

#[test]
fn a_failed_sync_voids_what_it_was_to_store_for_good() {
    let mut machine = Machine::small(1);
    machine.append_all(["kept"]);
    let mut answer = machine.append("void");
    assert!(machine.writer().write());
    assert_eq!(machine.payloads(), ["kept", "void"]);
    machine.disk.fail_syncs(1);
    machine.writer().sync();
    assert!(matches!(now(&mut answer), Some(Err(AppendError::Failed(_)))));
    let progress = *machine.wal().progress().borrow();
    assert_eq!((progress.appended, progress.failures), (progress.durable, 1));
    assert_eq!(machine.payloads(), ["kept"]);

    machine.append_all(["later"]);
    assert_eq!(machine.payloads(), ["kept", "later"]);
    machine.open();
    assert_eq!(machine.payloads(), ["kept", "later"]);
    machine.crash();
    assert_eq!(machine.payloads(), ["kept", "later"]);
}

#[test]
fn the_cap_takes_the_oldest_and_counts_what_a_cursor_had_not_read() {
    let mut machine = Machine::small(1);
    let mut cursor = machine.wal().cursor("slow").unwrap();
    let payload = "x".repeat(1000);
    machine.append_all(std::iter::repeat_n(payload.as_str(), 3));
    cursor.commit(frames(machine.wal())[0].next).unwrap();
    assert_eq!(machine.wal().report().cursors[0].lag_records, 4);
    machine.append_all(std::iter::repeat_n(payload.as_str(), 97));

    let left = frames(machine.wal());
    assert_eq!(cursor.lost(), 2 * (100 - 1 - left.len() as u64));
    assert_eq!(cursor.position(), left[0].position);
    let report = machine.wal().report();
    assert!(report.disk_bytes <= small_config().bytes_max);
    assert_eq!(report.cursors[0].lag_records, 2 * left.len() as u64);
    assert_eq!(report.cursors[0].lag_bytes, left.len() as u64 * 1088);

    machine.writer().save_cursors();
    drop(cursor);
    machine.crash();
    let cursor = machine.wal().cursor("slow").unwrap();
    assert_eq!((cursor.position(), frames(machine.wal()).len()), (left[0].position, left.len()));
    assert_eq!(cursor.lost(), 2 * (100 - 1 - left.len() as u64));
}

#[test]
fn a_cursor_that_holds_the_log_is_waited_for() {
    let mut machine = Machine::small(1);
    let mut cursor = machine.wal().cursor("evaluator").unwrap();
    cursor.hold();
    let payload = "x".repeat(1000);
    let mut appended = 0;
    loop {
        let mut answer = machine.append(&payload);
        machine.sync();
        match now(&mut answer).unwrap() {
            Ok(_) => appended += 1,
            Err(error) => break assert_eq!(error, AppendError::Full),
        }
    }
    assert_eq!((frames(machine.wal()).len(), cursor.lost()), (appended, 0));
    let mut clock = machine.wal().append(NewFrame { kind: FrameKind::Clock, ..new_frame(&payload) });
    machine.sync();
    assert_eq!(now(&mut clock), None, "our own frames wait");
    assert!(cursor.is_far_behind());
    cursor.commit(machine.wal().progress().borrow().durable).unwrap();
    assert!(!cursor.is_far_behind());
    machine.append_all([payload.as_str()]);
    assert!(matches!(now(&mut clock), Some(Ok(_))));
    assert_eq!(cursor.lost(), 0);
}

#[test]
fn a_segment_used_again_shows_nothing_of_its_former_life() {
    let mut machine = Machine::small(1);
    let old = "old".repeat(333);
    machine.append_all(std::iter::repeat_n(old.as_str(), 40));
    let before = frames(machine.wal()).len();
    let mut new = 0;
    while machine.disk.list().unwrap().len() < 5 || machine.payloads().contains(&old) {
        machine.append_all(["new"]);
        new += 1;
        let left = machine.payloads();
        assert!(left.len() <= before + new);
        assert!(left.windows(2).all(|pair| pair[0] == old || pair[1] == "new"), "an old frame behind a new one");
        if new % 50 == 0 {
            machine.crash();
            assert_eq!(machine.payloads(), left);
        }
    }
}

#[test]
fn cursors_are_never_ahead_of_the_log() {
    let mut machine = Machine::small(1);
    machine.append_all(["a"]);
    let durable = machine.wal().progress().borrow().durable;
    let mut cursor = machine.wal().cursor("fast").unwrap();
    drop(machine.append("b"));
    assert!(machine.writer().write());
    cursor.commit(machine.wal().progress().borrow().appended).unwrap();
    machine.writer().save_cursors();
    drop(cursor);
    machine.crash();
    assert_eq!(machine.wal().cursor("fast").unwrap().position(), durable);
}

#[test]
fn headers_since_a_time() {
    let mut machine = Machine::small(1);
    let payload = "x".repeat(900);
    for _ in 0..20 {
        machine.append_all([payload.as_str()]);
        machine.clock.advance(Duration::from_nanos(10));
    }
    let mut seen = Vec::new();
    machine.wal().headers(Timestamp(1_100), &mut |frame| seen.push((frame.received.0, frame.hash))).unwrap();
    assert_eq!(seen, (10..20).map(|i| (1_000 + 10 * i, 900)).collect::<Vec<_>>());
    let from = machine.wal().seek(Timestamp(1_100));
    assert!(machine.wal().oldest() < from && machine.wal().read(from, 1).unwrap()[0].received < Timestamp(1_100));
}

#[test]
fn a_frame_inside_a_payload_is_never_taken_for_one() {
    let mut machine = Machine::small(1);
    machine.append_all(["inner"]);
    let file = machine.disk.content("00000000.segment").unwrap();
    let inner = &file[8192..8192 + 128];
    let payload: Vec<u8> = inner.repeat(8);
    let mut answer = machine.wal().append(NewFrame { payload: payload.into(), ..new_frame("") });
    machine.sync();
    assert!(now(&mut answer).unwrap().is_ok());
    machine.append_all(["last"]);
    machine.disk.damage("00000000.segment", 8192 + 128, 1);
    machine.crash();
    assert_eq!(machine.payloads(), ["inner", "last"]);
}

/// Whatever byte is damaged, the log opens, and every frame but the one that the byte is in is there.
#[test]
fn a_damaged_byte_costs_its_frame_and_no_other() {
    let mut machine = Machine::small(1);
    let payloads: Vec<_> = (0..12).map(|i| format!("{i}").repeat(300 + 100 * (i % 5))).collect();
    let positions = machine.append_all(payloads.iter().map(String::as_str));
    machine.writer().save_cursors();
    let whole = machine.payloads();
    assert_eq!(whole, payloads);
    let undamaged = machine.disk.copy();
    let files: Vec<_> = machine.disk.list().unwrap();
    let used = |name: &String| machine.disk.content(name).unwrap().len();
    for (name, bytes) in files.iter().map(|name| (name.clone(), used(name))).collect::<Vec<_>>() {
        for offset in 0..bytes {
            machine.disk = undamaged.copy();
            machine.disk.damage(&name, offset, 1 << (offset % 8));
            machine.open();
            let left = machine.payloads();
            let missing: Vec<_> = (0..12).filter(|i| !left.contains(&payloads[*i])).collect();
            assert!(left.iter().all(|payload| payloads.contains(payload)), "{name} at {offset}");
            let at_fault = missing.iter().all(|i| {
                let start = positions[*i].offset() as usize;
                name.starts_with(&format!("{:08}", positions[*i].sequence() - 1))
                    && (start..start + 64 + payloads[*i].len()).contains(&offset)
            });
            assert!(at_fault, "{name} at {offset} costs {missing:?}");
        }
    }
}

/// Whatever sector cannot be read, the log opens and is read, and every frame but those in its page is there.
#[test]
fn an_unreadable_sector_costs_the_frames_of_its_page() {
    let mut machine = Machine::new(1, WalConfig { segment_bytes: 32 << 10, bytes_max: 1 << 20, ..small_config() });
    let payloads: Vec<_> = (0..40).map(|i| format!("{i:04}").repeat(75 + 125 * (i % 5))).collect();
    let positions = machine.append_all(payloads.iter().map(String::as_str));
    machine.writer().save_cursors();
    let healthy = machine.disk.copy();
    let bytes = |name: &String| machine.disk.content(name).unwrap().len();
    let files: Vec<_> = machine.disk.list().unwrap().into_iter().map(|name| (name.clone(), bytes(&name))).collect();
    for (name, offset) in files.iter().flat_map(|(name, bytes)| (0..*bytes).step_by(2048).map(move |at| (name, at))) {
        machine.disk = healthy.copy();
        machine.disk.make_unreadable(name, offset);
        machine.open();
        let left = machine.payloads();
        let page = offset / 4096 * 4096..offset / 4096 * 4096 + 4096;
        for (position, payload) in positions.iter().zip(&payloads).filter(|(_, payload)| !left.contains(payload)) {
            let start = position.offset() as usize;
            assert!(
                name.starts_with(&format!("{:08}", position.sequence() - 1)),
                "{name} at {offset} costs {position:?}"
            );
            assert!(start < page.end && start + 64 + payload.len() > page.start, "{offset} costs {position:?}");
        }
        machine.wal().headers(Timestamp(0), &mut |_| ()).unwrap();
        machine.append_all(["on it goes"]);
    }
}

#[test]
fn what_becomes_unreadable_while_the_log_runs_is_skipped_and_counted() {
    let mut machine = Machine::small(1);
    let payload = "x".repeat(6000);
    let positions = machine.append_all([payload.as_str(), "gone", "stays", &payload]);
    let gone = positions[1].offset() as usize;
    machine.disk.make_unreadable("00000000.segment", gone);
    let left: Vec<_> = frames(machine.wal()).iter().map(|frame| frame.position).collect();
    assert!(left.contains(&positions[3]), "{left:?}");
    assert!(!left.contains(&positions[1]), "{left:?}");
    assert!(machine.metrics.of("logs").damaged.get() > 0);
}

/// What a frame that needs more room does not get, a smaller one behind it still has.
#[test]
fn a_full_disk_keeps_the_place_that_is_left() {
    let mut machine = Machine::small(1);
    machine.append_all(["first"]);
    machine.disk.fail_creates(1);
    let mut large = machine.append(&"x".repeat(5000));
    machine.sync();
    assert!(matches!(now(&mut large), Some(Err(AppendError::Failed(_)))));
    let small = machine.append_all(["small"]);
    assert_eq!(small[0].sequence(), 1);
    machine.crash();
    assert_eq!(machine.payloads(), ["first", "small"]);
}

#[test]
fn a_failed_save_leaves_the_last_good_copy_alone() {
    let mut machine = Machine::small(1);
    let mut cursor = machine.wal().cursor("c").unwrap();
    let mut save = |machine: &mut Machine| {
        cursor.commit(machine.wal().progress().borrow().durable).unwrap();
        machine.writer().save_cursors();
        ["cursors.0", "cursors.1"].map(|name| machine.disk.content(name))
    };
    let good = save(&mut machine);
    machine.disk.fail_syncs(1);
    let failed = save(&mut machine);
    let again = save(&mut machine);
    assert_eq!((&failed[1], &again[1]), (&good[1], &good[1]));
    assert_ne!(again[0], good[0]);
}

/// A reader's place is saved while appends come without a pause, not only when they stop.
#[test]
fn cursors_are_saved_under_steady_load() {
    let disk = SimulatedDisk::new(1);
    disk.slow_syncs(Duration::from_millis(20));
    let clock = crate::clock::SystemClock::shared();
    let (wal, writer) = Wal::open_on(disk.clone(), "logs", small_config(), clock, &Metrics::default()).unwrap();
    wal.start(writer).unwrap();
    let mut cursor = wal.cursor("exporter").unwrap();
    let saved = || super::cursor::Cursors::load(&disk).unwrap().durable;
    let mut late = Vec::new();
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let wal = &wal;
        scope.spawn(move || {
            // No append waits for the one before.
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                drop(wal.append(new_frame("x")));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..2 {
            let committed = wal.progress().borrow().durable;
            cursor.commit(committed).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            late.extend(Some((committed, saved())).filter(|(committed, saved)| saved < committed));
        }
        drop(stop);
    });
    assert_eq!(late, [], "committed, and what was saved two seconds after");
}

/// A log on the machine's disk, with its thread.
fn open_real(data_dir: &DataDir, config: &WalConfig) -> Arc<Wal> {
    let clock = crate::clock::SystemClock::shared();
    Arc::new(Wal::open(data_dir, "logs", config.clone(), clock, &Metrics::default()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_disk_from_many_tasks_over_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(folder.path()).unwrap();
    let config = WalConfig { segment_bytes: 64 << 10, bytes_max: 16 << 20, ..WalConfig::default() };
    let wal = open_real(&data_dir, &config);
    let mut cursor = wal.cursor("exporter").unwrap();
    let tasks = (0..8).map(|task| {
        let wal = Arc::clone(&wal);
        tokio::spawn(async move {
            for i in 0..50 {
                let position = wal.append(new_frame(&format!("{task} {i} ").repeat(200))).await.unwrap();
                let read = wal.read(position, 1).unwrap();
                assert_eq!((read[0].position, read[0].payload[0]), (position, b'0' + task));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let all = frames(&*wal);
    cursor.commit(all[99].next).unwrap();
    wal.close();
    assert_eq!(wal.append(new_frame("late")).await, Err(AppendError::Closed));
    drop((cursor, wal));

    let wal = open_real(&data_dir, &config);
    let again = frames(&*wal);
    assert_eq!(again.len(), 400);
    assert!(all.iter().zip(&again).all(|(a, b)| (a.position, &a.payload) == (b.position, &b.payload)));
    assert_eq!(wal.cursor("exporter").unwrap().position(), all[99].next);
    wal.append(new_frame("one more")).await.unwrap();
}

#[tokio::test]
async fn a_real_disk_stays_under_its_cap() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(folder.path()).unwrap();
    let wal =
        open_real(&data_dir, &WalConfig { segment_bytes: 64 << 10, bytes_max: 256 << 10, ..WalConfig::default() });
    let payload = "x".repeat(10_000);
    for _ in 0..100 {
        wal.append(new_frame(&payload)).await.unwrap();
    }
    let files = std::fs::read_dir(folder.path().join("wal/logs")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((128 << 10..=(256 << 10) + 4096).contains(&bytes), "{bytes}");
    assert!((10..30).contains(&frames(&*wal).len()));
}

#[test]
fn a_data_directory_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = DataDir::open(folder.path()).unwrap();
    let message = DataDir::open(folder.path()).unwrap_err().to_string();
    let expected = format!(
        "data directory `{}` is used by another watchbell (process {}): stop that one or set another `data_dir`",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(message, expected);
    drop(first);
    DataDir::open(folder.path()).unwrap();
}

/// No acked frame is missing after `kill -9`, at whatever moment it comes.
#[tokio::test]
async fn a_killed_process_has_left_every_acked_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut acked = Vec::new();
    for round in 0..5 {
        acked.extend(acked_until_killed(folder.path(), 40 + 17 * round).await);
        let wal = open_real(&DataDir::open(folder.path()).unwrap(), &child_config());
        let left: HashSet<_> = frames(&*wal).into_iter().map(|frame| frame.payload).collect();
        let missing: Vec<_> = acked.iter().filter(|number| !left.contains(&child_payload(number))).collect();
        assert_eq!(missing, Vec::<&String>::new());
    }
    assert!(acked.len() >= 5 * 40);
}

/// Starts [`child`] in a process of its own, and kills it when it has told of so many acks: what it told of.
async fn acked_until_killed(folder: &Path, acks: usize) -> Vec<String> {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "wal::tests::child", "--ignored", "--nocapture"])
        .env("WAL_CHILD", folder)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acked = Vec::new();
    for number in lines.filter_map(|line| line.strip_prefix("acked ").map(str::to_owned)) {
        acked.push(number);
        if acked.len() == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that `a_killed_process_has_left_every_acked_frame` kills"]
async fn child() {
    let Some(folder) = std::env::var_os("WAL_CHILD") else { return };
    let wal = open_real(&DataDir::open(Path::new(&folder)).unwrap(), &child_config());
    let tasks = (0..4).map(|task| {
        let wal = Arc::clone(&wal);
        tokio::spawn(async move {
            for i in 0.. {
                let number = format!("{}.{task}.{i}", std::process::id());
                let frame = NewFrame { payload: child_payload(&number), ..new_frame("") };
                wal.append(frame).await.unwrap();
                writeln!(std::io::stdout(), "\nacked {number}").unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn child_config() -> WalConfig {
    WalConfig { segment_bytes: 256 << 10, ..WalConfig::default() }
}

fn child_payload(number: &str) -> Bytes {
    number.repeat(500).into()
}

/// What was before a log's end may be told from what is of another log, also where rot took the last frames.
#[test]
fn no_frame_stands_before_the_end_and_none_has_stood_behind_it() {
    let mut machine = Machine::small(1);
    let cursor = machine.wal().cursor("evaluator").unwrap();
    let positions = machine.append_all(["first", "last"]);
    let end = machine.wal().end();
    assert_eq!(end, frames(machine.wal())[1].next);
    machine.writer().save_cursors();
    drop(cursor);
    machine.disk.damage("00000000.segment", positions[1].offset() as usize, 1);
    machine.open();
    assert!(machine.wal().end() >= end && machine.wal().progress().borrow().appended < end);
    let end = machine.wal().end();
    assert!(machine.append_all(["next"])[0] >= end);
}

#[test]
fn metrics_name_the_signal_and_the_cursor() {
    let mut registry = prometheus_client::registry::Registry::default();
    let mut machine = Machine::small(1);
    machine.metrics = Metrics::register(&mut registry);
    machine.open();
    let _cursor = machine.wal().cursor("loki").unwrap();
    machine.append_all(["a", "b"]);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "watchbell_wal_records_total{signal=\"logs\"} 4",
        "watchbell_wal_fsync_duration_seconds_count{signal=\"logs\"} 2",
        "watchbell_wal_segments{signal=\"logs\"} 1",
        "watchbell_wal_cursor_lag_records{signal=\"logs\",cursor=\"loki\"} 4",
        "watchbell_wal_cursor_lost_records_total{signal=\"logs\",cursor=\"loki\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
}

/// Whoever reads headers alone must not take a frame for whole whose payload the crash has torn.
#[test]
fn a_torn_frame_has_no_header_after_a_restart() {
    for seed in 0..50 {
        let mut machine = Machine::small(seed);
        machine.append_all(["first"]);
        let payloads = ["a", "b", "c"].map(|letter| letter.repeat(900));
        payloads.iter().for_each(|payload| drop(machine.append(payload)));
        assert!(machine.writer().write());
        machine.crash();
        let whole: Vec<_> = frames(machine.wal()).iter().map(|frame| frame.position).collect();
        let mut headers = Vec::new();
        machine.wal().headers(Timestamp(0), &mut |frame| headers.push(frame.position)).unwrap();
        assert_eq!(headers, whole);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Write,
    Sync,
    FailSyncs,
    FailWrites,
    FailCreates,
    SaveCursors,
    Commit,
    Crash,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1usize..3000).prop_map(Step::Append),
        4 => Just(Step::Write),
        4 => Just(Step::Sync),
        1 => Just(Step::FailSyncs),
        1 => Just(Step::FailWrites),
        1 => Just(Step::FailCreates),
        1 => Just(Step::SaveCursors),
        1 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Reopen),
    ]
}

/// What is known of a frame that was appended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waiting,
    Acked,
    Failed,
    /// The crash may have left it or not.
    Unknown,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_a_vec_over_crashes(seed: u64, steps in proptest::collection::vec(step(), 1..120)) {
        let mut machine = Machine::new(seed, WalConfig { bytes_max: 1 << 30, ..small_config() });
        let mut appended: Vec<(String, Fate, Option<Answer>)> = Vec::new();
        let mut committed = Position::default();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let payload = format!("{:05}", appended.len()).repeat(bytes.div_ceil(5));
                    let answer = machine.append(&payload);
                    appended.push((payload, Fate::Waiting, Some(answer)));
                }
                Step::Write => drop(machine.writer().write()),
                Step::Sync => machine.writer().sync(),
                Step::FailSyncs => machine.disk.fail_syncs(1),
                Step::FailWrites => machine.disk.fail_writes(1),
                Step::FailCreates => machine.disk.fail_creates(1),
                Step::SaveCursors => machine.writer().save_cursors(),
                Step::Commit => {
                    let durable = machine.wal().progress().borrow().durable;
                    machine.wal().cursor("c").unwrap().commit(durable).unwrap();
                    committed = durable;
                }
                Step::Crash => {
                    forget(&mut appended);
                    machine.disk.fail_nothing();
                    machine.crash();
                }
                Step::Reopen => {
                    forget(&mut appended);
                    machine.disk.fail_nothing();
                    machine.open();
                }
            }
            settle(&mut appended);
            check(&machine, &appended)?;
            let cursor = machine.wal().cursor("c").unwrap().position();
            prop_assert!(frames(machine.wal()).iter().all(|frame| frame.position >= cursor || frame.position < committed));
        }
    }
}

/// A crash is coming: what waits may survive it or not, and so may what failed since the last durable frame.
fn forget(appended: &mut [(String, Fate, Option<Answer>)]) {
    settle(appended);
    let acked = appended.iter().rposition(|(_, fate, _)| *fate == Fate::Acked).map_or(0, |last| last + 1);
    for (_, fate, answer) in &mut appended[acked..] {
        (*fate, *answer) = (Fate::Unknown, None);
    }
}

fn settle(appended: &mut [(String, Fate, Option<Answer>)]) {
    for (_, fate, answer) in appended {
        match answer.as_mut().and_then(now) {
            Some(Ok(_)) => (*fate, *answer) = (Fate::Acked, None),
            Some(Err(_)) => (*fate, *answer) = (Fate::Failed, None),
            None => {}
        }
    }
}

fn check(machine: &Machine, appended: &[(String, Fate, Option<Answer>)]) -> Result<(), TestCaseError> {
    let all = frames(machine.wal());
    prop_assert!(all.windows(2).all(|pair| pair[0].next <= pair[1].position && pair[0].received <= pair[1].received));
    let mut read = machine.payloads().into_iter().peekable();
    for (payload, fate, _) in appended {
        let there = read.next_if_eq(payload).is_some();
        match fate {
            Fate::Acked => prop_assert!(there, "acked frame is gone"),
            Fate::Failed => prop_assert!(!there, "failed frame is there"),
            Fate::Waiting | Fate::Unknown => {}
        }
    }
    prop_assert_eq!(
        all.last().map_or(Position::default(), |last| last.next),
        machine.wal().progress().borrow().appended
    );
    prop_assert_eq!(read.next(), None, "a frame that was never appended, or out of order");
    Ok(())
}
