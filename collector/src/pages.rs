//! Runs the examples of the pages in `docs/`.

use std::fs;
use std::path::Path;

/// Every file of the page is there under its name, and its outputs are what `run` gives for the command before each; `UPDATE=1` writes
/// them. A file is a block whose language is followed by a name, a command a block `sh`, an output a block `text`.
pub(crate) fn check(page: &str, run: impl Fn(&Path, &str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command: Option<String> = None;
    let (mut updated, mut count) = (Vec::new(), 0);
    for (at, part) in text.split("```").enumerate() {
        let (kind, body) = part.split_once('\n').unwrap_or((part, ""));
        updated.push(part.to_owned());
        match kind {
            _ if at % 2 == 0 => {}
            "sh" => command = Some(body.trim().to_owned()),
            "text" => {
                let told = run(folder.path(), &command.take().expect("a command before its output"));
                updated[at] = format!("text\n{}\n", told.trim_end());
                count += 1;
            }
            kind => {
                let (_, name) = kind.split_once(' ').expect("a file's name behind its language");
                fs::write(folder.path().join(name), body).unwrap();
            }
        }
    }
    assert!(count > 2, "{count} outputs");
    compare(&path, &updated.join("```"));
}

/// What is told must be what the file holds; `UPDATE=1` writes it.
pub(crate) fn compare(path: &Path, told: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, told).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(told == expected, "{}: expected\n{expected}\ngot\n{told}", path.display());
}
