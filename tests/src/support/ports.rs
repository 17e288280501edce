//! Ports that are ours until the test process ends.
//!
//! A server is told its port before it can bind it, so the port must stay free in between. The kernel gives its ephemeral ports to
//! any connection, so ours lie below them; another test process finds ours locked.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

/// A port that nobody listens on, on any address, given out once.
pub(crate) fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(vec![]);
    let mut taken = TAKEN.lock().unwrap();
    let (port, lock) = range().find_map(|port| Some((port, lock(port)?))).expect("a free port");
    taken.push(lock);
    port
}

/// The port's lock file, where neither another process nor this one has locked it and it can be bound.
fn lock(port: u16) -> Option<File> {
    let folder = std::env::temp_dir().join("watchbell-test-ports");
    fs::create_dir_all(&folder).unwrap();
    let file = File::options().create(true).append(true).open(folder.join(port.to_string())).unwrap();
    file.try_lock().ok()?;
    TcpListener::bind(("0.0.0.0", port)).ok().map(|_| file)
}

/// The ports below the ephemeral ones; above them where there are too few.
fn range() -> Range<u16> {
    let (first, last) = ephemeral().unwrap_or((32768, 60999));
    if first > FIRST + 1000 { FIRST..first } else { last.saturating_add(1)..u16::MAX }
}

fn ephemeral() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// Well-known servers listen below.
const FIRST: u16 = 20_000;

#[test]
fn no_port_is_given_out_twice() {
    let ports: std::collections::BTreeSet<_> = (0..100).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 100);
}
