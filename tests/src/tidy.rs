//! Hygiene that neither the compiler nor clippy sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Functions longer than [`FUNCTION_LINES_MAX`] that are there now. The number may only be lowered.
const LONG_FUNCTIONS: usize = 0;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn crates_point_one_way() {
    let allowed = BTreeMap::from([
        ("watchbell-proto", vec![]),
        ("watchbell-rules", vec!["watchbell-proto"]),
        ("watchbell-macros", vec![]),
        ("watchbell", vec!["watchbell-macros", "watchbell-proto"]),
        ("watchbell-collector", vec!["watchbell", "watchbell-proto", "watchbell-rules"]),
        ("watchbell-examples", vec!["watchbell"]),
        ("watchbell-tests", vec!["watchbell", "watchbell-collector", "watchbell-proto", "watchbell-rules"]),
    ]);
    for package in workspace_packages() {
        let name = package["name"].as_str().unwrap();
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("`{name}` has no place in the arrows"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let dev = dependency["kind"] == "dev";
            assert!(dev || !to.starts_with("watchbell") || allowed.contains(&to), "`{name}` must not use `{to}`");
        }
    }
}

#[test]
fn the_judging_core_has_no_runtime() {
    for package in ["watchbell-proto", "watchbell-rules"] {
        let tree = run("cargo", &["tree", "--offline", "--edges=normal", "--prefix=none", "--package", package]);
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            assert!(!RUNTIMES.contains(&dependency), "`{package}` must not depend on `{dependency}`");
        }
    }
}

const RUNTIMES: [&str; 8] = ["tokio", "async-std", "smol", "hyper", "axum", "reqwest", "rustix", "rustls"];

#[test]
fn siblings_of_the_collector_do_not_import_one_another() {
    let siblings = ["receiver", "exporter", "notify", "wal"];
    let mut bad = vec![];
    for (path, text) in rust_files().filter(|(path, _)| path.starts_with("collector/src")) {
        let module = path.iter().nth(2).unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if !siblings.contains(&module.as_str()) {
            continue;
        }
        for other in siblings.iter().filter(|other| **other != module) {
            bad.extend(imports_of(&text, other).into_iter().map(|import| format!("{}: {import}", path.display())));
        }
    }
    assert!(bad.is_empty(), "siblings meet in `pipeline`, and nowhere else:\n{}", bad.join("\n"));
}

/// What `text` takes from the collector's module `other`; of `wal` the types of `wal.rs` are the contract and free for all.
fn imports_of(text: &str, other: &str) -> Vec<String> {
    let prefix = format!("crate::{other}");
    let paths = text.match_indices(&prefix).map(|(at, _)| {
        let end = text[at..].find([';', ')', '(', ',', ' ']).unwrap_or(text.len() - at);
        text[at..at + end].to_owned()
    });
    paths.filter(|path| other != "wal" || is_submodule_path(path)).collect()
}

/// Whether a path like `crate::wal::writer::Writer` names a module below the first.
fn is_submodule_path(path: &str) -> bool {
    path.split("::").nth(2).is_some_and(|third| third.starts_with(char::is_lowercase))
}

#[test]
fn one_file_of_the_collector_reads_the_clock() {
    let clocks = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
    let mut bad = vec![];
    for (path, text) in
        rust_files().filter(|(path, _)| path.starts_with("collector/src") || path.starts_with("rules/src"))
    {
        if path.ends_with("clock.rs") || path.ends_with("tests.rs") {
            continue;
        }
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = product.lines().enumerate().filter(|(_, line)| clocks.iter().any(|clock| line.contains(clock)));
        bad.extend(lines.map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim())));
    }
    assert!(bad.is_empty(), "time is an argument, or comes from `clock`:\n{}", bad.join("\n"));
}

#[test]
fn functions_fit_a_screen() {
    let mut long = vec![];
    for (path, text) in rust_files() {
        long.extend(
            functions(&text).into_iter().filter(|f| f.1 > FUNCTION_LINES_MAX).map(|f| (f.1, f.0, path.clone())),
        );
    }
    long.sort();
    let list: Vec<_> =
        long.iter().map(|(lines, name, path)| format!("{}: {name}: {lines} lines", path.display())).collect();
    let list = list.join("\n");
    assert_eq!(
        long.len(),
        LONG_FUNCTIONS,
        "functions over {FUNCTION_LINES_MAX} lines (fewer: lower the number):\n{list}"
    );
}

/// Name and number of lines of each function: rustfmt puts the closing brace where the `fn` began.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = vec![];
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let closes = |line: &str| indent(line) == indent(lines[start]) && line.ends_with(['}', ';']);
        let length = lines[start..].iter().position(|line| closes(line)).map_or(1, |end| end + 1);
        found.push((name.to_owned(), length));
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    let name = after.split(['(', '<']).next()?;
    before.split_whitespace().all(|word| qualifiers.contains(&word)).then_some(name)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    find_none(&words, "an open end");
}

#[test]
fn nothing_names_a_machine() {
    let paths = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    find_none(&paths, "a path of somebody's machine");
    let hosts = [
        concat!("registry.", "npmjs"),
        concat!("proxy.", "golang.org"),
        concat!("artifact", "ory"),
        concat!("repo.", "maven."),
    ];
    find_none(&hosts, "a package registry");
}

fn find_none(words: &[&str], what: &str) {
    let mut bad = vec![];
    for (path, text) in text_files().filter(|(path, _)| !path.starts_with("proto/protos")) {
        let lines = text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        bad.extend(lines.map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim())));
    }
    assert!(bad.is_empty(), "{what} in\n{}", bad.join("\n"));
}

#[test]
fn every_dependency_says_why() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let bare: Vec<_> = section
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with("watchbell") && !line.contains(" # "))
        .collect();
    assert!(bare.is_empty(), "say in a comment what these are for:\n{}", bare.join("\n"));
}

#[test]
fn vendored_protocols_keep_their_licence() {
    for path in files().filter(|path| path.extension().is_some_and(|extension| extension == "proto")) {
        let text = read(&path);
        assert!(text.contains("Licensed under the Apache License"), "{} lacks its licence header", path.display());
    }
}

/// A source of the crate names each file under `testdata/`, or the folder it is in.
#[test]
fn all_testdata_is_read() {
    let sources: Vec<_> = rust_files().collect();
    let testdata = files().filter(|path| path.iter().any(|part| part == "testdata"));
    let is_dead = |path: &PathBuf| {
        let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let below = parts.iter().skip_while(|part| **part != "testdata").skip(1);
        let names: Vec<_> = below.flat_map(|part| [format!("\"{part}\""), format!("testdata/{part}")]).collect();
        !sources
            .iter()
            .any(|(source, text)| source.starts_with(parts[0]) && names.iter().any(|name| text.contains(name)))
    };
    let dead: Vec<_> = testdata.filter(is_dead).collect();
    assert!(dead.is_empty(), "no source of their crate reads {dead:?}");
}

/// Each file of a crate's `src` that may hold `unsafe` code stands here; a comment beside its attribute says why it needs to. (Within the SDK clippy asks for one
/// before each block.) Tests and benchmarks, which no service runs, do as they need.
#[test]
fn unsafe_code_has_its_files() {
    let allowed = [
        "sdk/src/exit.rs",
        "sdk/src/layer.rs",
        "sdk/src/levels/signals.rs",
        "sdk/src/mapped/map.rs",
        "sdk/src/sink/file/hangup.rs",
        "sdk/src/spool/flock.rs",
        "sdk/src/tell/stderr.rs",
    ];
    let mut found = vec![];
    for (path, text) in rust_files().filter(|(path, _)| path.iter().nth(1).is_some_and(|folder| folder == "src")) {
        let is_allowed = |line: &&str| line.trim_start().starts_with('#') && line.contains("unsafe_code");
        let Some(line) = text.lines().find(is_allowed) else { continue };
        let before = text.lines().take_while(|before| before != &line).filter(|line| !line.is_empty()).last();
        let is_argued = line.contains(" // ") || before.is_some_and(|before| before.trim_start().starts_with("//"));
        assert!(is_argued, "{}: a comment says why it needs `unsafe`", path.display());
        found.push(path.to_str().unwrap().to_owned());
    }
    assert_eq!(found, allowed);
}

#[test]
fn modules_have_no_mod_rs() {
    let bad: Vec<_> = files().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(bad.is_empty(), "`foo.rs` beside `foo/`: {bad:?}");
}

fn workspace_packages() -> Vec<serde_json::Value> {
    let metadata = run("cargo", &["metadata", "--offline", "--no-deps", "--format-version=1"]);
    let mut metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

fn run(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rust_files() -> impl Iterator<Item = (PathBuf, String)> {
    text_files().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
}

fn text_files() -> impl Iterator<Item = (PathBuf, String)> {
    files().filter_map(|path| Some((path.clone(), fs::read_to_string(root().join(&path)).ok()?)))
}

/// The repository's files, relative to its root, sorted.
fn files() -> impl Iterator<Item = PathBuf> {
    let list = run("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    let paths: BTreeSet<_> = list.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect();
    paths.into_iter()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
