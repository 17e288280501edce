//! What a command answers, on stdout.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Prints the answer and gives the exit status. Who reads it may have seen enough (`| head`), which is no failure; where it cannot be
/// written (a full disk) that is said and the status is 2.
pub fn answer(text: &str, status: ExitCode) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => status,
        Err(error) => {
            // Nobody is left to tell where stderr is gone too.
            let _ = writeln!(io::stderr(), "cannot print the answer: {error}");
            ExitCode::from(2)
        }
    }
}
