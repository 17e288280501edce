//! `watchbell check`: what is wrong with rule files and a config, and what is legal but will surprise.

#![allow(clippy::print_stderr)] // it answers a person

mod output;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use watchbell_rules::diagnostic::{Diagnostic, Severity};
use watchbell_rules::{lint, rule_file, rule_test};

use crate::cli::{CheckArguments, CheckFormat};
use crate::config::{Config, ConfigError, read_rule_file};
use crate::evaluator::rule_set::RuleFileText;
use crate::{pipeline, print};

/// Checks and prints; the exit status is as the command's help says.
pub fn check(arguments: &CheckArguments) -> ExitCode {
    match findings(arguments) {
        Ok(findings) => report(&findings, arguments),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, ConfigError::Mistake(_)) { 1 } else { 2 })
        }
    }
}

/// What was found in one file.
struct Findings {
    file: RuleFileText,
    rules: usize,
    diagnostics: Vec<Diagnostic>,
}

fn findings(arguments: &CheckArguments) -> Result<Vec<Findings>, ConfigError> {
    let mut files = Vec::new();
    if let Some(path) = &arguments.config {
        let config = Config::load(Some(path))?;
        pipeline::check(&config)?;
        files.extend(config.read_rule_files()?);
    }
    for path in &arguments.paths {
        files.extend(rule_files_at(path)?.iter().map(|path| read_rule_file(path)).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(files.into_iter().map(|file| check_file(file, arguments)).collect())
}

/// The file, or the rule files in the folder.
pub(crate) fn rule_files_at(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |error: io::Error| ConfigError::Unreadable(format!("cannot read the folder `{}`: {error}", path.display()));
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_yaml).collect();
    files.sort();
    if files.is_empty() {
        return Err(ConfigError::Unreadable(format!("the folder `{}` holds no *.yaml or *.yml file", path.display())));
    }
    Ok(files)
}

fn check_file(file: RuleFileText, arguments: &CheckArguments) -> Findings {
    let (path, text) = (&file.path, &file.text);
    let (rules, mut diagnostics) = match rule_file::parse(path, text) {
        Ok(parsed) => {
            let mut diagnostics = lint::lint(path, text, &parsed, lint::is_default_index_label);
            let tests = parsed.tests.as_ref().map(|_| rule_test::parse(path, text));
            diagnostics.extend(tests.and_then(Result::err).into_iter().flatten());
            (parsed.groups.iter().map(|group| group.rules.len()).sum(), diagnostics)
        }
        Err(diagnostics) => (0, diagnostics),
    };
    if arguments.loki {
        diagnostics.extend(lint::loki(path, text));
    }
    let is_allowed =
        |found: &Diagnostic| found.severity == Severity::Warning && arguments.allow.contains(&found.code.to_string());
    diagnostics.retain(|found| !is_allowed(found));
    diagnostics.sort_by_key(|found| (found.span.start, found.code));
    Findings { rules, file, diagnostics }
}

fn report(findings: &[Findings], arguments: &CheckArguments) -> ExitCode {
    let config = arguments.config.iter().map(|path| format!("{}: ok\n", path.display()));
    let text = match arguments.format {
        CheckFormat::Text => config.collect::<String>() + &output::text(findings, io::stdout().is_terminal()),
        CheckFormat::Json => output::json(findings) + "\n",
        CheckFormat::Github => output::github(findings),
        CheckFormat::Sarif => output::sarif(findings) + "\n",
    };
    let (errors, warnings) = counts(findings);
    let failed = errors > 0 || (arguments.deny_warnings && warnings > 0);
    print::answer(&text, if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How many mistakes and how many warnings there are.
fn counts(findings: &[Findings]) -> (usize, usize) {
    let all = || findings.iter().flat_map(|found| &found.diagnostics);
    let errors = all().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    (errors, all().count() - errors)
}

#[cfg(test)]
mod tests;
