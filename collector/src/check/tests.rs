//! docs/checks.md is the test: each code has what is bad, what is said of it, and what is good.

use std::collections::BTreeSet;

use clap::Parser;
use watchbell_rules::diagnostic::codes;
use watchbell_rules::logql;

use super::*;
use crate::cli::{Cli, Command};

fn arguments(more: &[&str]) -> CheckArguments {
    let line = ["watchbell", "check", "rules.yaml"].into_iter().chain(more.iter().copied());
    let Command::Check(arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    arguments
}

fn checked(text: &str, more: &[&str]) -> Findings {
    checked_at("rules.yaml", text, more)
}

fn checked_at(path: &str, text: &str, more: &[&str]) -> Findings {
    let file = RuleFileText { path: path.to_owned(), text: text.to_owned() };
    check_files(vec![file], &LabelConfig::default(), &arguments(more)).remove(0)
}

/// What stands behind a line `marker` and a fence of that language, up to the fence's end.
fn fenced<'t>(text: &'t str, marker: &str, language: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("{marker}\n\n```{language}\n"))?;
    Some(rest.split_once("```").unwrap().0)
}

/// What is bad is told as the page says, with the code of its heading, and what is good is not; `UPDATE=1` writes what is said.
#[test]
fn the_page_on_checks_tells_the_truth() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checks.md");
    let page = fs::read_to_string(&path).unwrap();
    let (mut updated, mut told) = (Vec::new(), BTreeSet::new());
    for section in page.split("\n### ") {
        let Some((language, bad)) = LANGUAGES.iter().find_map(|name| Some((name, fenced(section, "Bad:", name)?)))
        else {
            updated.push(section.to_owned());
            continue;
        };
        let code = &section[..5];
        let mut found = told_of(language, code, bad);
        found.retain(|found| found.code.to_string() == code);
        assert!(!found.is_empty(), "{section}");
        let good = told_of(language, code, fenced(section, "Good:", language).unwrap());
        assert!(good.is_empty(), "{code}: {good:#?}");
        let shown: Vec<String> = found.iter().map(|found| found.render(bad)).collect();
        let (before, rest) = section.split_once("```text\n").unwrap();
        let (_, behind) = rest.split_once("```").unwrap();
        updated.push(format!("{before}```text\n{}\n```{behind}", shown.join("\n\n")));
        told.insert(code.to_owned());
    }
    let all =
        codes::ALL.iter().map(|(code, _)| code.to_string()).filter(|code| !SHOWN_ELSEWHERE.contains(&code.as_str()));
    let untold: Vec<String> = all.filter(|code| !told.contains(code)).collect();
    assert!(untold.is_empty(), "docs/checks.md does not show {untold:?}");
    for (code, says) in codes::ALL {
        assert!(page.contains(&format!("{code}")), "docs/checks.md does not name {code}: {says}");
    }
    let updated = updated.join("\n### ");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &updated).unwrap();
    }
    assert!(updated == page || std::env::var_os("UPDATE").is_some(), "{updated}");
}

/// A rule file, or an expression.
const LANGUAGES: &[&str] = &["yaml", "logql"];

/// What is found in an example of that code.
fn told_of(language: &str, code: &str, text: &str) -> Vec<Diagnostic> {
    match language {
        "yaml" => checked(text, if code == "WB220" { &["--loki"] } else { &[] }).diagnostics,
        _ => logql::parse(text.trim_end()).err().unwrap_or_default(),
    }
}

/// Of tests that are run, of a config, of conversion; what needs a file of records, or an expression that fills a page; and what is left
/// for parts of LogQL that are not evaluated: there is none.
const SHOWN_ELSEWHERE: &[&str] = &["WB015", "WB040", "WB050", "WB051", "WB060", "WB061", "WB103", "WB104", "WB130"];

const BAD: &str = "groups:\n  - name: \"é, 100%\"\n    rules:\n      - alert: A\n        expr: sum(count_over_time({service_name=\"x\"}[1m])) == 0\n        labels: {severity: page}\n";

#[test]
fn programs_are_told_the_places() {
    let found = [checked(BAD, &[]), checked("groups: [", &[])];
    let json: serde_json::Value = serde_json::from_str(&output::json(&found)).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &1.into()));
    let first = &json["diagnostics"][0];
    let place = ["line", "column", "end_line", "end_column"].map(|name| first[name].as_u64().unwrap());
    assert_eq!(
        (place, first["code"].as_str(), first["file"].as_str()),
        ([5, 15, 5, 64], Some("WB204"), Some("rules.yaml"))
    );
    let github = output::github(&found);
    assert!(
        github.starts_with(
            "::warning file=rules.yaml,line=5,col=15,endLine=5,endColumn=64,title=WB204::`== 0` never holds"
        ),
        "{github}"
    );
    assert!(
        github.contains("%0Ahelp: to hear of silence") && github.contains("\n::error file=rules.yaml,line=1,"),
        "{github}"
    );
    let sarif: serde_json::Value = serde_json::from_str(&output::sarif(&found)).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["endColumn"], 64);
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("WB204"), Some("warning")));
    let odd = output::sarif(&[checked_at("rules/é #1 a:b%.yaml", BAD, &[])]);
    assert!(odd.contains(r#""uri": "rules/%C3%A9%20%231%20a%3Ab%25.yaml""#), "{odd}");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == "WB204"));
}

#[test]
fn a_warning_can_be_allowed_and_a_mistake_cannot() {
    assert_eq!(checked(BAD, &[]).diagnostics.len(), 1);
    assert!(checked(BAD, &["--allow", "wb204"]).diagnostics.is_empty());
    assert_eq!(checked("groups: [", &["--allow", "WB001"]).diagnostics.len(), 1);
    let refused = Cli::try_parse_from(["watchbell", "check", "x", "--allow", "WB999"]).unwrap_err();
    assert!(refused.to_string().contains("there is no code `WB999`"), "{refused}");
}

/// What selectors can ask for hangs on the config, and on who pushes; a rule may stand in two of the files.
#[test]
fn files_are_checked_together_and_as_the_config_reads_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rule =
        r#"{alert: A, expr: 'sum(count_over_time({team_name="x", app="y"}[1m])) > 1', labels: {severity: page}}"#;
    let text = format!("groups: [{{name: g, rules: [{rule}]}}]\n");
    fs::write(path("a.yaml"), &text).unwrap();
    fs::write(path("b.yaml"), &text).unwrap();
    fs::write(path("config.yaml"), "rule_files: []\nengine: {labels: {index_resource_attributes: [team.name]}}\n")
        .unwrap();
    let check = |paths: &[&str], more: &[&str], expected: &[&str]| {
        let paths = paths.iter().map(|name| PathBuf::from(path(name))).collect();
        let (found, unread) = findings(&CheckArguments { paths, ..arguments(more) });
        assert!(unread.is_empty(), "{unread:?}");
        let codes =
            |file: &Findings| file.diagnostics.iter().map(|found| format!("{} ", found.code)).collect::<String>();
        assert_eq!(found.iter().map(codes).collect::<Vec<_>>(), expected, "{more:?}");
    };
    check(&["a.yaml"], &[], &["WB201 WB201 "]);
    check(&["a.yaml"], &["--config", &path("config.yaml")], &["WB201 "]);
    check(&["a.yaml"], &["--config", &path("config.yaml"), "--index-label", "app"], &[""]);
    check(&["a.yaml", "b.yaml"], &["--allow", "WB201"], &["", "WB203 "]);
    check(&["a.yaml", "a.yaml"], &["--allow", "WB201"], &[""]);
}

#[test]
fn a_folder_is_looked_through_to_its_bottom() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("team/deep");
    fs::create_dir_all(&below).unwrap();
    fs::create_dir_all(folder.path().join(".git")).unwrap();
    for path in ["good.yaml", "team/deep/bad.yml", "team/notes.txt", ".git/hidden.yaml"] {
        let text = if path == "good.yaml" { "groups: []" } else { "groups: [" };
        fs::write(folder.path().join(path), text).unwrap();
    }
    std::os::unix::fs::symlink(folder.path(), below.join("back.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("gone.yaml")).unwrap();
    let (found, unread) = findings(&CheckArguments { paths: vec![folder.path().to_owned()], ..arguments(&[]) });
    let told = |found: &Findings| (found.file.path.rsplit('/').next().unwrap().to_owned(), found.diagnostics.len());
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [("good.yaml".to_owned(), 0), ("bad.yml".to_owned(), 1)]);
    assert!(matches!(&unread[..], [ConfigError::Unreadable(told)] if told.contains("gone.yaml")), "{unread:?}");
}

#[test]
fn tests_of_rules_are_checked_too() {
    let text = "groups: []\ntests:\n  - name: x\n    expect: [{at: 1s}]\n";
    assert_eq!(checked(text, &[]).diagnostics.len(), 1);
    let misspelt = "groups: [{name: g, rules: [{alert: Refused, expr: 'count_over_time({a=\"b\"}[1m]) > 2'}]}]\n\
                    tests: [{expect: [{at: 1s, alert: Refusd, firing: 0}, {at: 1s, receiver: ops, messages: 0}]}]\n";
    let found = checked(misspelt, &["--allow", "WB211"]).diagnostics;
    assert!(found.iter().any(|found| found.help.as_deref() == Some("did you mean `Refused`?")), "{found:?}");
    assert!(!found.iter().any(|found| found.message.contains("ops")), "which receivers there are is not known");
    let ok = checked("rule_files: []\ntests: [{expect: []}]\n", &[]);
    assert_eq!(output::text(&[ok], false), "rules.yaml: ok, 1 test\n");
    assert_eq!(checked("rule_files: [a.yaml]\ntsts: [{expect: []}]\n", &[]).diagnostics.len(), 2);
}

/// What tests name is looked for in the rule files that they name, where these can be read.
#[test]
fn tests_of_rules_that_stand_elsewhere_are_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "groups: [{name: g, rules: [{alert: Refused, expr: 'count_over_time({a=\"b\"}[1m]) > 2'}]}]\n";
    fs::write(folder.path().join("a.yaml"), rules).unwrap();
    fs::write(folder.path().join("broken.yaml"), "groups: [").unwrap();
    let told = |files: &str, test: &str| -> Vec<String> {
        let path = folder.path().join("tests.yaml").display().to_string();
        let text = format!("rule_files: [{files}]\ntests: [{test}]\n");
        checked_at(&path, &text, &[]).diagnostics.into_iter().map(|found| found.message).collect()
    };
    let of = |alert: &str| format!("{{expect: [{{at: 1s, alert: {alert}, firing: 0}}]}}");
    assert_eq!(told("'a*.yaml'", &of("Refused")), [""; 0]);
    assert_eq!(told("a.yaml", &of("Refusd")), ["no alerting rule is named `Refusd`"]);
    assert_eq!(told("a.yaml, 'b*.yml'", &of("Refusd")), ["no file matches `b*.yml`"]);
    assert_eq!(told("a.yaml, broken.yaml", &of("Refusd")), [""; 0], "it may be in what is broken");
    let promtool = "{alert_rule_test: [{eval_time: 1m, groupname: h, alertname: Refused}]}";
    assert_eq!(told("a.yaml", promtool), ["no alert of that group is named `Refused`"]);
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_from_being_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, missing) = (folder.path().join("bad.yaml"), folder.path().join("missing.yaml"));
    fs::write(&bad, "groups: [{nam: g}]").unwrap();
    let arguments = CheckArguments { paths: vec![missing, bad], ..arguments(&[]) };
    let (findings, unread) = findings(&arguments);
    assert_eq!(counts(&findings).0, 2, "an unknown key, and `name` is missing");
    assert!(matches!(&unread[..], [ConfigError::Unreadable(_)]));
    assert_eq!((status(&findings, &unread, false), status(&findings, &[], false)), (2, 1));
}
