//! Whatever is done to a log's bytes, it opens, shows no frame that was not appended, and takes the next one.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use watchbell_collector::clock::ManualClock;
use watchbell_collector::wal::simulated_disk::SimulatedDisk;
use watchbell_collector::wal::{FrameKind, Log, Metrics, NewFrame, Position, Wal, WalConfig, WalWriter};
use watchbell_rules::time::Timestamp;

const FRAMES: u8 = 12;
const FILES: [&str; 4] = ["00000000.segment", "00000001.segment", "00000002.segment", "cursors.1"];

// Each four bytes of input: a file, an offset in 64ths or an exact one near the headers, a mask.
fuzz_target!(|damage: &[u8]| {
    let disk = SimulatedDisk::new(1);
    let (wal, mut writer) = open(&disk);
    (0..FRAMES).for_each(|i| append(&wal, &mut writer, payload(i)));
    drop(wal.cursor("reader"));
    writer.save_cursors();
    drop((wal, writer));
    for change in damage.chunks_exact(4) {
        let name = FILES[usize::from(change[0] % 4)];
        let offset = usize::from(u16::from_le_bytes([change[1], change[2]]));
        if disk.content(name).is_some_and(|content| offset < content.len()) {
            disk.damage(name, offset, change[3]);
        }
    }
    let (wal, mut writer) = open(&disk);
    append(&wal, &mut writer, Bytes::from_static(b"last"));
    let payloads = read(&wal);
    let (last, before) = payloads.split_last().expect("the one just appended");
    assert_eq!(&last[..], b"last");
    assert!(before.iter().all(|found| (0..FRAMES).any(|i| payload(i) == found)));
});

fn open(disk: &SimulatedDisk) -> (Wal<SimulatedDisk>, WalWriter<SimulatedDisk>) {
    let config = WalConfig { segment_bytes: 12 << 10, bytes_max: 1 << 20, tail_cache_bytes_max: 0, ..WalConfig::default() };
    Wal::open_on(disk.clone(), "logs", config, ManualClock::at(Timestamp(1)), &Metrics::default()).expect("it always opens")
}

fn append(wal: &Wal<SimulatedDisk>, writer: &mut WalWriter<SimulatedDisk>, payload: Bytes) {
    drop(wal.append(NewFrame { kind: FrameKind::Batch, hash: 0, event_span: None, records: 1, payload }));
    while writer.write() {
        writer.sync();
    }
}

fn payload(i: u8) -> Bytes {
    vec![i; 300 + 100 * usize::from(i)].into()
}

fn read(wal: &Wal<SimulatedDisk>) -> Vec<Bytes> {
    let (mut from, mut payloads) = (Position::default(), Vec::new());
    loop {
        let frames = wal.read(from, 1000).expect("memory does not fail");
        let Some(last) = frames.last() else { return payloads };
        from = last.next;
        payloads.extend(frames.into_iter().map(|frame| frame.payload));
    }
}
