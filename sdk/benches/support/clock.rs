//! Processor time and memory, as the kernel counts them.

#![allow(unsafe_code)] // the kernel's clocks

/// Processor time of the calling thread.
pub(crate) fn thread_cpu_nanos() -> u64 {
    nanos(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of all threads of this process, of those that have ended too.
pub(crate) fn process_cpu_nanos() -> u64 {
    nanos(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call, which writes one `timespec`.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "a clock that every kernel has");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `VmRSS` or `VmHWM` (the most that it was) of this process.
pub(crate) fn memory_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of every kernel");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}
