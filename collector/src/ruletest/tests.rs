//! Each folder of `testdata/ruletest` holds files, and in `expected.txt` what `watchbell test` says of them; `UPDATE=1` writes that.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::pages;

/// What the command prints for these arguments, files being relative to `folder`, and its exit status.
fn output(folder: &Path, arguments: &[&str]) -> String {
    let line = ["watchbell", "test"].into_iter().chain(arguments.iter().copied());
    let Command::Test(mut arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    arguments.paths.iter_mut().for_each(|path| *path = folder.join(&path));
    arguments.config = arguments.config.map(|path| folder.join(path));
    let (results, errors) = run(&arguments);
    let mut out = match arguments.format {
        TestFormat::Text => report::text(&results, false),
        TestFormat::Json => report::json(&results, &errors) + "\n",
        TestFormat::Junit => report::junit(&results, &errors),
    };
    errors.iter().for_each(|error| out.push_str(&format!("{error}\n\n")));
    let prefix = format!("{}/", folder.display());
    out.replace(&prefix, "")
}

#[test]
fn folders_of_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ruletest");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 5);
    for folder in folders {
        let arguments = fs::read_to_string(folder.join("arguments")).unwrap_or_else(|_| "rules.yaml".to_owned());
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        pages::compare(&folder.join("expected.txt"), &output(&folder, &arguments));
    }
}

#[test]
fn the_page_on_testing_tells_the_truth() {
    pages::check("testing.md", tested);
}

#[test]
fn the_page_on_detectors_tells_the_truth() {
    pages::check("detect.md", tested);
}

/// What a page's command prints.
fn tested(folder: &Path, command: &str) -> String {
    let arguments = command.strip_prefix("watchbell test ").expect("the page has tests");
    output(folder, &arguments.split_whitespace().collect::<Vec<_>>())
}
