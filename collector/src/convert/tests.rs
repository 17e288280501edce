//! The page on converting, as the command answers it.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
use crate::pages;

fn output(folder: &Path, arguments: &[&str]) -> Outcome {
    let line = ["watchbell", "convert"].into_iter().chain(arguments.iter().copied());
    let Command::Convert(mut arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    arguments.paths.iter_mut().for_each(|path| *path = folder.join(&path));
    outcome(&arguments, false)
}

#[test]
fn the_page_on_converting_tells_the_truth() {
    pages::check("convert.md", |folder, command| {
        let arguments = command.strip_prefix("watchbell convert ").expect("the page is about converting");
        let outcome = output(folder, &shell_words(arguments));
        let told = outcome.told.replace(&format!("{}/", folder.display()), "");
        format!("{}\n{told}", outcome.rules)
    });
}

/// Words, of which quoted ones may hold spaces.
fn shell_words(text: &str) -> Vec<&str> {
    let parts = text.split('\'').enumerate();
    parts.flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }).collect()
}

#[test]
fn folders_are_read_with_all_that_is_below_and_the_status_tells_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "title: T\nlogsource: {}\ndetection: {a: {b: c}, condition: a}\n";
    fs::create_dir_all(folder.path().join("linux/auth")).unwrap();
    fs::write(folder.path().join("linux/auth/one.yml"), rule).unwrap();
    fs::write(folder.path().join("linux/one.yml"), rule.replace("title: T", "title: U")).unwrap();
    fs::write(folder.path().join("linux/README.md"), "no rule").unwrap();
    let both = output(folder.path(), &["linux"]);
    assert_eq!((both.status, both.rules.matches("alert: ").count(), both.rules.matches("- name: ").count()), (0, 2, 1));
    fs::write(folder.path().join("linux/odd.yml"), "hello: world").unwrap();
    assert_eq!(output(folder.path(), &["linux"]).status, 1);
    fs::write(folder.path().join("linux/odd.yml"), b"\xff").unwrap();
    let unread = output(folder.path(), &["linux", "nowhere"]);
    assert_eq!((unread.status, unread.rules.matches("alert: ").count()), (2, 2));
    assert!(unread.told.contains("nowhere") && unread.told.contains("odd.yml"), "{}", unread.told);
}
