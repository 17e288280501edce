//! Threads whose work can wait.

/// Makes this thread give way to the others: theirs is the processor whenever they want it.
pub(crate) fn give_way() {
    // Where the system does not allow it, the limits of what it does remain.
    let _ = rustix::process::nice(NICE);
}

const NICE: i32 = 10;
