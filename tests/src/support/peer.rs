//! The real servers and clients that the installers under `peers/` put into the cache.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{http, until};

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

/// Where a crate that is outside of the workspace is built: its dependencies need to be compiled but once.
pub(crate) fn target(name: &str) -> PathBuf {
    cache().join("peers").join(format!("{name}-target"))
}

fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").expect("HOME is set").join(".cache");
    set("WATCHBELL_CACHE").unwrap_or_else(|| set("XDG_CACHE_HOME").unwrap_or_else(home).join("watchbell"))
}

/// A running server, with a folder of its own. It is killed when dropped.
pub(crate) struct Server {
    name: String,
    child: Child,
    pub(crate) dir: TempDir,
}

impl Server {
    /// Starts `program` in a new folder, which `write` fills first.
    pub(crate) fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], write: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        Self::start_in(dir, program, arguments)
    }

    /// Starts `program` in `dir`; its log goes on in `log` there.
    pub(crate) fn start_in<A: AsRef<OsStr>>(dir: TempDir, program: &Path, arguments: &[A]) -> Self {
        let log = File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { name: program.file_name().unwrap().to_string_lossy().into_owned(), child, dir }
    }

    /// Waits until a GET of `url` is answered with 200; fails with the log's end where the server ends before.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self, url: &str) {
        until(&format!("{} answers {url}", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            http::get(url).filter(|response| response.status == 200)
        });
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL; gives the folder back for another start.
    pub(crate) fn kill(mut self) -> TempDir {
        self.stop();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// SIGTERM, and the exit code; fails where it does not end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        until(&format!("{} ends", self.name), || self.child.try_wait().unwrap()).code()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{name} {}", self.name);
    }

    /// What it wrote to its standard output and error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "shown where the test fails")]
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("---- the end of {}'s log\n{}", self.name, self.log_tail());
        }
    }
}
