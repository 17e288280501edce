//! A service that is built with `panic = "abort"`: what was recorded until a panic is sent, and so is the panic, before the process ends by it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;

use super::receiver::{Absent, Receiver};
use super::without_ours;

/// The program, which is no part of the workspace.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abort/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abort");
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env_remove("CARGO_BUILD_TARGET") // which would have it built in a folder of its name
        .status();
    assert!(status.expect("cargo").success());
    target.join("debug/watchbell-abort")
});

fn run(endpoint: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> ExitStatus {
    let mut command = Command::new(&*PROGRAM);
    without_ours(&mut command).args(arguments).envs(variables.iter().copied());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BLRP_SCHEDULE_DELAY", "3600000"); // so that nothing leaves by itself
    command.status().expect("the program")
}

fn assert_told(receiver: &Receiver) {
    let (words, panic) = (receiver.log("last words"), receiver.log("out of stock"));
    assert_eq!((panic.scope.as_str(), panic.record.severity_number), ("panic", 17));
    assert_eq!((panic.record.trace_id.len(), &panic.record.trace_id), (16, &words.record.trace_id));
}

#[test]
fn a_panic_that_aborts_is_sent_with_what_was_recorded_before() {
    let receiver = Receiver::http();
    assert_eq!(run(&receiver.endpoint(), &[], &[]).signal(), Some(libc::SIGABRT));
    assert_told(&receiver);
}

#[test]
fn or_it_is_in_the_spool_for_the_next_process() {
    let (absent, folder) = (Absent::new(), tempfile::tempdir().expect("a folder"));
    let spool = [("WATCHBELL_SPOOL_DIR", folder.path())];
    assert_eq!(run(&absent.endpoint(), &[], &spool).signal(), Some(libc::SIGABRT));
    let receiver = absent.come(false);
    assert_eq!(run(&receiver.endpoint(), &["deliver"], &spool).code(), Some(0));
    assert_told(&receiver);
}
