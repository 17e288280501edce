//! System calls that fail, by the kernel's own hand: a filter of the process has it answer with an error.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use super::receiver::{Absent, Received, Receiver};
use super::spool::{RECORDS, files, run, spawn, text};
use super::{child, command};

/// Network file systems without a lock daemon have none.
#[test]
fn without_file_locks_the_spool_is_told_and_records_wait_in_memory() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let absent = Absent::new();
    let mut command = child("spool and exit");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).env("DENY", "flock");
    let output = spawn(&mut command, folder.path()).wait_with_output().expect("its output");
    let told = text(&output);
    assert!(told.contains("cannot write the spool in") && told.contains("No locks available"), "{told}");
    assert!(told.contains(&format!("{RECORDS} dropped ({RECORDS} at the deadline)")), "{told}");
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(denied("flock", &receiver, folder.path()).status.code(), Some(0));
    assert_eq!(receiver.logs().len(), RECORDS, "with a collector nothing is amiss");
}

/// What was delivered stays on disk, and nobody sends it again.
#[test]
fn a_file_that_cannot_be_removed_is_not_sent_twice() {
    for is_mapped in ["false", "true"] {
        let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
        let absent = Absent::new();
        let mut away = child("spool and exit");
        away.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).env("WATCHBELL_SPOOL_MAPPED", is_mapped);
        assert!(spawn(&mut away, folder.path()).wait().expect("its end").success());
        let output = denied("unlink", &receiver, folder.path());
        assert!(text(&output).contains("Input/output error"), "{}", text(&output));
        assert!(!files(folder.path()).is_empty());
        assert_eq!(run("spool and exit", &receiver, folder.path()).status.code(), Some(0));
        let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
        assert_eq!(bodies.len(), 3 * RECORDS, "no record is lost or there twice");
        assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), 3 * RECORDS);
        assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
    }
}

/// Memory alone is left then.
#[test]
fn without_room_for_mapped_chunks_it_goes_on() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let mut command = command("spool and exit", &receiver);
    command.env("DENY", "fallocate").env("WATCHBELL_SPOOL_MAPPED", "true");
    let output = spawn(&mut command, folder.path()).wait_with_output().expect("its output");
    assert!(text(&output).contains("chunks are not mapped"), "{}", text(&output));
    assert!(text(&output).contains("No space left on device"), "{}", text(&output));
    assert_eq!((output.status.code(), receiver.logs().len()), (Some(0), RECORDS));
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}

fn denied(call: &str, receiver: &Receiver, folder: &Path) -> Output {
    let mut command = command("spool and exit", receiver);
    spawn(command.env("DENY", call), folder).wait_with_output().expect("its output")
}

/// Has a call of this thread, and of those that it starts, fail from here on.
#[expect(unsafe_code)] // the standard library knows no filters
pub(crate) fn deny(call: &str) {
    let (numbers, error) = match call {
        "flock" => (vec![libc::SYS_flock], libc::ENOLCK),
        "fallocate" => (vec![libc::SYS_fallocate], libc::ENOSPC),
        #[cfg(target_arch = "x86_64")]
        "unlink" => (vec![libc::SYS_unlink, libc::SYS_unlinkat], libc::EIO),
        #[cfg(not(target_arch = "x86_64"))]
        "unlink" => (vec![libc::SYS_unlinkat], libc::EIO),
        other => panic!("`{other}` is no call that is denied"),
    };
    let instruction = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let is = |number: &libc::c_long| libc::sock_filter { jf: 1, ..instruction(JUMP_IF_EQUAL, 0, *number as u32) };
    let fail = instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | error as u32);
    let mut filter = vec![instruction(LOAD, 0, 0)]; // the call's number
    filter.extend(numbers.iter().flat_map(|number| [is(number), fail]));
    filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers, and a program that outlives the call.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(set, 0, "the kernel takes no filter: {}", std::io::Error::last_os_error());
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
