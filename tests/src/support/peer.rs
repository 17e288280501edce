//! The real servers and clients that the installers under `peers/` put into the cache.

use std::path::PathBuf;

/// The folder of an installed peer.
#[track_caller]
pub(crate) fn folder(name: &str) -> PathBuf {
    let line = include_str!("../../peers/versions").lines().find(|line| line.split(' ').next() == Some(name));
    let version = line.unwrap_or_else(|| panic!("`peers/versions` has no `{name}`")).split(' ').nth(1).unwrap();
    let folder = cache().join("peers").join(format!("{name}-{version}"));
    assert!(folder.join("installed").exists(), "`{name}` is not installed: run `make peers`");
    folder
}

/// A program of an installed peer.
#[track_caller]
pub(crate) fn program(name: &str, program: &str) -> PathBuf {
    folder(name).join("bin").join(program)
}

fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").expect("HOME is set").join(".cache");
    set("WATCHBELL_CACHE").unwrap_or_else(|| set("XDG_CACHE_HOME").unwrap_or_else(home).join("watchbell"))
}
