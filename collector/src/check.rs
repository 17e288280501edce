//! `watchbell check`: what is wrong with rule files and a config, and what is legal but will surprise.

#![allow(clippy::print_stdout, clippy::print_stderr)] // it answers a person

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use watchbell_rules::diagnostic::{Diagnostic, Severity};
use watchbell_rules::{lint, rule_file};

use crate::cli::CheckArguments;
use crate::config::{Config, ConfigError, read_rule_file};
use crate::evaluator::rule_set::RuleFileText;
use crate::pipeline;

/// Checks and prints; the exit status is as the command's help says.
pub fn check(arguments: &CheckArguments) -> ExitCode {
    match findings(arguments) {
        Ok(findings) => report(&findings, arguments.deny_warnings),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
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
        println!("{}: ok", path.display());
        files.extend(config.read_rule_files()?);
    }
    for path in &arguments.paths {
        files.extend(rule_files_at(path)?.iter().map(|path| read_rule_file(path)).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(files.into_iter().map(check_file).collect())
}

/// The file, or the rule files in the folder.
fn rule_files_at(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: io::Error| ConfigError(format!("cannot read the folder `{}`: {error}", path.display()));
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_yaml).collect();
    files.sort();
    if files.is_empty() {
        return Err(ConfigError(format!("the folder `{}` holds no *.yaml or *.yml file", path.display())));
    }
    Ok(files)
}

fn check_file(file: RuleFileText) -> Findings {
    match rule_file::parse(&file.path, &file.text) {
        Ok(parsed) => {
            let diagnostics = lint::lint(&file.path, &file.text, &parsed, lint::is_default_index_label);
            Findings { rules: parsed.groups.iter().map(|group| group.rules.len()).sum(), file, diagnostics }
        }
        Err(diagnostics) => Findings { file, rules: 0, diagnostics },
    }
}

fn report(findings: &[Findings], deny_warnings: bool) -> ExitCode {
    let styled = io::stdout().is_terminal();
    let mut errors = 0;
    let mut warnings = 0;
    for Findings { file, rules, diagnostics } in findings {
        for diagnostic in diagnostics {
            let text = if styled { diagnostic.render_styled(&file.text) } else { diagnostic.render(&file.text) };
            println!("{text}\n");
        }
        let found = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        errors += found;
        warnings += diagnostics.len() - found;
        if diagnostics.is_empty() {
            println!("{}: ok, {}", file.path, counted(*rules, "rule"));
        }
    }
    if errors + warnings > 0 {
        println!("{}, {}", counted(errors, "mistake"), counted(warnings, "warning"));
    }
    if errors > 0 || (deny_warnings && warnings > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
