//! Levels from a file that may change.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Directives, Shared};
use crate::tell;

/// Sets the levels as the file says, and starts a thread that looks for changes, until the end. The file is small; its time may stay the same over a change.
pub(super) fn start(path: PathBuf, levels: &Arc<Shared>, interval: Duration) {
    let (levels, end) = (Arc::downgrade(levels), Arc::clone(&levels.end));
    let mut source = Source::new(path.display().to_string());
    let read = move || std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"));
    source.take(read(), &levels);
    let run = move || {
        while !end.wait(interval) {
            source.take(read(), &levels);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watchbell-levels".to_owned()).spawn(run) {
        tell::warn(format_args!("the levels' file is not watched: {error}"));
    }
}

/// Where levels come from.
pub(super) struct Source {
    name: String,
    /// What came last, so that a change alone is heeded and an error is told once.
    known: Option<Result<String, String>>,
}

impl Source {
    pub(super) fn new(name: String) -> Self {
        Self { name, known: None }
    }

    /// Sets the levels as the text says, or as they were at the start if it says nothing.
    pub(super) fn take(&mut self, read: Result<String, String>, levels: &Weak<Shared>) {
        if self.known.as_ref() == Some(&read) {
            return;
        }
        let name = &self.name;
        let set = |directives: Option<Directives>| {
            let Some(levels) = levels.upgrade() else { return };
            let directives = directives.unwrap_or_else(|| levels.initial.clone());
            tell::info(format_args!("the levels are `{directives}`, as `{name}` says"));
            levels.change(|state| state.base = directives);
        };
        match read.as_deref().map_err(Clone::clone).and_then(directives) {
            Err(error) => tell::warn(format_args!("the levels stay as they are: `{name}`: {error}")),
            Ok(directives) => set(directives),
        }
        self.known = Some(read);
    }
}

/// What the text says, if it says anything.
fn directives(text: &str) -> Result<Option<Directives>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { Ok(None) } else { lines.join(",").parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_lines_and_remarks() {
        let directives = |text| directives(text).unwrap().map(|directives| directives.to_string());
        let text = "info # usually\n\n# tonight\ncheckout=debug, hyper=off\n";
        assert_eq!(directives(text).as_deref(), Some("info,checkout=debug,hyper=off"));
        assert_eq!(directives("# nothing tonight\n"), None);
    }
}
