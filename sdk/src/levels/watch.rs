//! Levels from a file that may change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Directives, Shared};
use crate::tell;

/// Sets the levels as the file says, and starts a thread that looks for changes.
pub(super) fn start(path: PathBuf, levels: &Arc<Shared>, interval: Duration) {
    let levels = Arc::downgrade(levels);
    let mut known = None;
    look(&path, &levels, &mut known);
    let run = move || {
        while levels.strong_count() > 0 {
            std::thread::sleep(interval);
            look(&path, &levels, &mut known);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watchbell-levels".to_owned()).spawn(run) {
        tell::warn(format_args!("the levels' file is not watched: {error}"));
    }
}

/// Reads the file, which is small; its time may stay the same over a change.
fn look(path: &Path, levels: &Weak<Shared>, known: &mut Option<Result<String, String>>) {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    if known.as_ref() == Some(&read) {
        return;
    }
    match &read {
        Err(error) => {
            tell::warn(format_args!("the levels stay as they are: cannot read `{}`: {error}", path.display()))
        }
        Ok(text) => match directives(text) {
            Err(error) => tell::warn(format_args!("the levels stay as they are: `{}`: {error}", path.display())),
            Ok(directives) => {
                if let Some(levels) = levels.upgrade() {
                    tell::info(format_args!("the levels are `{directives}`, as `{}` says", path.display()));
                    levels.change(|state| state.base = directives);
                }
            }
        },
    }
    *known = Some(read);
}

fn directives(text: &str) -> Result<Directives, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(",").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_lines_and_remarks() {
        let directives = directives("info # usually\n\n# tonight\ncheckout=debug, hyper=off\n").unwrap();
        assert_eq!(directives.to_string(), "info,checkout=debug,hyper=off");
    }
}
