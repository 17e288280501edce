//! `watchbell check`: what is wrong with rule files and a config, and what is legal but will surprise.

#![allow(clippy::print_stderr)] // it answers a person

mod output;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use watchbell_rules::diagnostic::{Diagnostic, Severity, codes};
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::rule_file::RuleFile;
use watchbell_rules::rule_test::TestFile;
use watchbell_rules::{lint, rule_file, rule_test};

use crate::cli::{CheckArguments, CheckFormat};
use crate::config::{Config, ConfigError, matching_files, read_rule_file};
use crate::evaluator::rule_set::RuleFileText;
use crate::inputs::files_below;
use crate::{pipeline, print};

/// Checks and prints; the exit status is as the command's help says.
pub fn check(arguments: &CheckArguments) -> ExitCode {
    let (findings, unread) = findings(arguments);
    unread.iter().for_each(|error| eprintln!("{error}"));
    report(&findings, &unread, arguments)
}

/// What is wrong with each file, and which could not be read.
fn findings(arguments: &CheckArguments) -> (Vec<Findings>, Vec<ConfigError>) {
    let mut unread = Vec::new();
    let mut note = |error| unread.push(error);
    let config = arguments.config.as_deref().and_then(|path| check_config(path).map_err(&mut note).ok());
    let (labels, mut files) = config.unwrap_or_default();
    for path in &arguments.paths {
        match rule_files_at(path) {
            Ok(paths) => files.extend(paths.iter().filter_map(|path| read_rule_file(path).map_err(&mut note).ok())),
            Err(error) => note(error),
        }
    }
    (check_files(files, &labels, arguments), unread)
}

/// Checks a config; gives which labels are index labels, and the rule files that it names.
fn check_config(path: &Path) -> Result<(LabelConfig, Vec<RuleFileText>), ConfigError> {
    let config = Config::load(Some(path))?;
    pipeline::check(&config)?;
    let files = config.read_rule_files()?;
    Ok((config.engine.labels, files))
}

/// Checks the files, each once, and what they say together.
fn check_files(mut files: Vec<RuleFileText>, labels: &LabelConfig, arguments: &CheckArguments) -> Vec<Findings> {
    let real = |file: &RuleFileText| fs::canonicalize(&file.path).unwrap_or_else(|_| PathBuf::from(&file.path));
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(real(file)));
    let parsed: Vec<_> = files.iter().map(|file| rule_file::parse(&file.path, &file.text)).collect();
    let read = files.iter().zip(&parsed).filter_map(|(file, parsed)| {
        let parsed = parsed.as_ref().ok()?;
        Some((file.path.as_str(), file.text.as_str(), parsed))
    });
    let mut duplicates = lint::duplicates(&read.collect::<Vec<_>>());
    let mut index_labels = lint::index_labels(labels);
    index_labels.extend(arguments.index_label.iter().cloned());
    let check = |(file, parsed): (RuleFileText, _)| {
        let of_file = duplicates.extract_if(.., |found| *found.file == *file.path).collect();
        check_file(file, parsed, of_file, &index_labels, arguments)
    };
    files.into_iter().zip(parsed).map(check).collect()
}

/// What was found in one file.
struct Findings {
    file: RuleFileText,
    rules: usize,
    /// The kinds of their detectors, each once.
    detectors: Vec<&'static str>,
    tests: usize,
    diagnostics: Vec<Diagnostic>,
}

/// The file, or the rule files in the folder and in those below it.
pub(crate) fn rule_files_at(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = files_below(path).map_err(ConfigError::Unreadable)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    if files.is_empty() {
        return Err(ConfigError::Unreadable(format!("the folder `{}` holds no *.yaml or *.yml file", path.display())));
    }
    Ok(files)
}

/// `found` is what was found by looking at all files.
fn check_file(
    file: RuleFileText,
    parsed: Result<RuleFile, Vec<Diagnostic>>,
    found: Vec<Diagnostic>,
    index_labels: &BTreeSet<String>,
    arguments: &CheckArguments,
) -> Findings {
    let (path, text) = (&file.path, &file.text);
    let (mut rules, mut detectors, mut tests) = (0, Vec::new(), 0);
    let mut diagnostics = match parsed {
        Ok(parsed) => {
            rules = parsed.groups.iter().map(|group| group.rules.len()).sum();
            let all = parsed.groups.iter().flat_map(|group| &group.rules);
            detectors = all.filter_map(|rule| Some(rule.detect.as_ref()?.kind)).collect();
            detectors.sort_unstable();
            detectors.dedup();
            let mut diagnostics = lint::lint(path, text, &parsed, |name| index_labels.contains(name));
            diagnostics.extend(found);
            diagnostics = lint::ignored(path, text, &parsed, diagnostics);
            if parsed.tests.is_some() {
                match rule_test::parse(path, text) {
                    Ok(file) => {
                        tests = file.tests.len();
                        diagnostics.extend(unknown_names(path, &file, parsed));
                    }
                    Err(mistakes) => diagnostics.extend(mistakes),
                }
            }
            diagnostics
        }
        Err(diagnostics) => diagnostics,
    };
    if arguments.loki {
        diagnostics.extend(lint::loki(path, text));
    }
    let is_allowed =
        |found: &Diagnostic| found.severity == Severity::Warning && arguments.allow.contains(&found.code.to_string());
    diagnostics.retain(|found| !is_allowed(found));
    diagnostics.sort_by_key(|found| (found.span.start, found.code));
    Findings { rules, detectors, tests, file, diagnostics }
}

/// What tests name and no rule is called; and rule files that are not there. A rule file with mistakes has them told when it is checked
/// itself: of what it may name, nothing is said.
fn unknown_names(path: &str, file: &TestFile, rules: RuleFile) -> Vec<Diagnostic> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let (mut rules, mut unknown, mut is_all) = (vec![rules], Vec::new(), true);
    for (pattern, span) in &file.rule_files {
        let found = matching_files(&folder.join(pattern).display().to_string()).unwrap_or_default();
        if found.is_empty() {
            let mistake = Diagnostic::error(codes::UNKNOWN_NAME, span.clone(), format!("no file matches `{pattern}`"));
            unknown.push(Diagnostic { file: path.into(), ..mistake });
        }
        for path in found {
            let read = read_rule_file(&path).ok().and_then(|file| rule_file::parse(&file.path, &file.text).ok());
            is_all &= read.is_some();
            rules.extend(read);
        }
    }
    if is_all && unknown.is_empty() {
        unknown = file.tests.iter().flat_map(|test| rule_test::unknown_names(test, &rules, None)).collect();
    }
    unknown
}

/// Prints what was found, also where a file could not be read: the others were.
fn report(findings: &[Findings], unread: &[ConfigError], arguments: &CheckArguments) -> ExitCode {
    let config = arguments.config.iter().filter(|_| unread.is_empty());
    let text = match arguments.format {
        CheckFormat::Text => {
            let config: String = config.map(|path| format!("{}: ok\n", path.display())).collect();
            config + &output::text(findings, io::stdout().is_terminal())
        }
        CheckFormat::Json => output::json(findings) + "\n",
        CheckFormat::Github => output::github(findings),
        CheckFormat::Sarif => output::sarif(findings) + "\n",
    };
    print::answer(&text, ExitCode::from(status(findings, unread, arguments.deny_warnings)))
}

/// 0 where all is right, 1 for a mistake, 2 for what cannot be read.
fn status(findings: &[Findings], unread: &[ConfigError], deny_warnings: bool) -> u8 {
    let (mistakes, warnings) = counts(findings);
    match unread.iter().any(|error| matches!(error, ConfigError::Unreadable(_))) {
        true => 2,
        false => u8::from(mistakes > 0 || !unread.is_empty() || (deny_warnings && warnings > 0)),
    }
}

/// How many mistakes and how many warnings there are.
fn counts(findings: &[Findings]) -> (usize, usize) {
    let all = || findings.iter().flat_map(|found| &found.diagnostics);
    let errors = all().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    (errors, all().count() - errors)
}

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
