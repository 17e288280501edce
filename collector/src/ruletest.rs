//! `watchbell test`: the tests of rule files, run and reported.

#![allow(clippy::print_stderr)] // it answers a person or a program

mod report;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use watchbell_rules::alerting::config::PolicyConfig;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::diagnostic::Diagnostic;
use watchbell_rules::plan::EngineConfig;
use watchbell_rules::rule_file::{self, RuleFile};
use watchbell_rules::rule_test::{self, Outside, Setting, Test, TestFile, TestResult};

use crate::check::rule_files_at;
use crate::cli::{TestArguments, TestFormat};
use crate::config::Config;
use crate::notify::Origin;
use crate::notify::preview::Previews;
use crate::print;

/// Runs the tests and prints; the exit status is as the command's help says.
pub fn test(arguments: &TestArguments) -> ExitCode {
    let (results, errors) = run(arguments);
    let styled = io::stdout().is_terminal();
    let text = match arguments.format {
        TestFormat::Text => report::text(&results, styled),
        TestFormat::Json => report::json(&results, &errors) + "\n",
        TestFormat::Junit => report::junit(&results, &errors),
    };
    errors.iter().for_each(|error| eprintln!("{error}\n"));
    let status = match (errors.is_empty(), results.iter().all(|result| result.result.passed())) {
        (false, _) => ExitCode::from(2),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    };
    print::answer(&text, status)
}

/// What came of one test.
struct Ran {
    file: String,
    /// The file's text, to show places in it.
    text: String,
    line: usize,
    result: TestResult,
}

/// The tests of all files, and what kept others from being run.
fn run(arguments: &TestArguments) -> (Vec<Ran>, Vec<String>) {
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for path in &arguments.paths {
        match rule_files_at(path) {
            Ok(files) => {
                let is_folder = path.is_dir();
                files.iter().for_each(|file| run_file(file, is_folder, arguments, &mut results, &mut errors));
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    if results.is_empty() && errors.is_empty() {
        errors.push(match &arguments.run {
            Some(wanted) => format!("no test's name matches `{wanted}`"),
            None => "there are no tests in these files: write some under `tests`".to_owned(),
        });
    }
    (results, errors)
}

fn run_file(
    path: &Path,
    is_in_folder: bool,
    arguments: &TestArguments,
    results: &mut Vec<Ran>,
    errors: &mut Vec<String>,
) {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return errors.push(format!("cannot read `{name}`: {error}")),
    };
    let mut texts = BTreeMap::from([(name.clone(), text.clone())]);
    match rule_test::has_tests(&name, &text) {
        Ok(false) if is_in_folder => return,
        Ok(_) => {}
        Err(mistake) => return errors.push(rendered(&[mistake], &texts)),
    }
    let prepared = rule_test::parse(&name, &text)
        .map_err(|mistakes| rendered(&mistakes, &texts))
        .and_then(|file| Ok((Bench::prepare(path, &file, arguments, &mut texts)?, file)));
    let (bench, file) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return errors.push(error),
    };
    let wanted = file.tests.iter().filter(|test| arguments.run.as_ref().is_none_or(|run| run.is_match(&test.name)));
    for test in wanted {
        match bench.run(test) {
            Ok(result) => {
                let line = text[..test.span.start].matches('\n').count() + 1;
                results.push(Ran { file: name.clone(), text: text.clone(), line, result });
            }
            Err(mistakes) => errors.push(rendered(&mistakes, &texts)),
        }
    }
}

/// What the tests of one file are run with.
struct Bench {
    folder: PathBuf,
    rules: Vec<RuleFile>,
    engine: EngineConfig,
    policy: PolicyConfig,
    previews: Previews,
    origin: Origin,
}

impl Bench {
    /// Reads what the file names; its texts join `texts`.
    fn prepare(
        path: &Path,
        file: &TestFile,
        arguments: &TestArguments,
        texts: &mut BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let of_file = file.config.as_ref().map(|(config, _)| folder.join(config));
        let config = arguments.config.clone().or(of_file);
        let config = Config::load(config.as_deref()).map_err(|error| error.to_string())?;
        let mut engine = config.engine();
        engine.interval = file.evaluation_interval.unwrap_or(engine.interval);
        let policy = match &config.alerting {
            Some(alerting) => alerting.policy().map_err(|error| format!("alerting: {error}"))?,
            None => PolicyConfig::default(),
        };
        let previews = Previews::new(config.alerting.as_ref()).map_err(|error| format!("alerting: {error}"))?;
        let mut paths = Vec::new();
        for (pattern, _) in &file.rule_files {
            let found = crate::config::matching_files(&folder.join(pattern).display().to_string());
            let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
            if found.is_empty() {
                return Err(format!("{}: rule_files: no file matches `{pattern}`", path.display()));
            }
            paths.extend(found);
        }
        if file.has_rules {
            paths.push(path.to_owned());
        }
        paths.sort();
        paths.dedup();
        let rules = paths.iter().map(|path| read_rules(path, texts)).collect::<Result<_, _>>()?;
        Ok(Self { folder, rules, engine, policy, previews, origin: config.origin() })
    }

    fn run(&self, test: &Test) -> Result<TestResult, Vec<Diagnostic>> {
        let setting = Setting { rules: &self.rules, engine: self.engine.clone(), policy: self.policy.clone() };
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
        };
        let external_url = test.external_url.as_deref().map_or(self.origin.external_url.clone(), Arc::from);
        let origin = Origin { external_url, ..self.origin.clone() };
        let render = |notification: &Notification| self.previews.render(notification, &origin);
        rule_test::run(test, &setting, &Outside { read: &read, render: &render })
    }
}

fn read_rules(path: &Path, texts: &mut BTreeMap<String, String>) -> Result<RuleFile, String> {
    let file = crate::config::read_rule_file(path).map_err(|error| error.to_string())?;
    let parsed = rule_file::parse(&file.path, &file.text);
    texts.insert(file.path, file.text);
    parsed.map_err(|mistakes| rendered(&mistakes, texts))
}

/// The mistakes, each with the lines of the file that it is in.
fn rendered(mistakes: &[Diagnostic], texts: &BTreeMap<String, String>) -> String {
    let text = |file: &str| texts.get(file).map_or("", String::as_str);
    mistakes.iter().map(|mistake| mistake.render(text(&mistake.file))).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests;
