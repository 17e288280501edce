//! `watchbell convert`: rule files out of the alerts of Grafana, ElastAlert 2 and Sigma.

#![allow(clippy::print_stderr)] // it answers a person

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use watchbell_rules::convert::{self, Conversion, Format, Options};
use watchbell_rules::diagnostic::Diagnostic;

use crate::cli::{ConvertArguments, ConvertParser, ConvertSource};
use crate::inputs::files_below;
use crate::print;

/// Converts and prints; the exit status is as the command's help says.
pub fn convert(arguments: &ConvertArguments) -> ExitCode {
    let outcome = outcome(arguments, io::stderr().is_terminal());
    eprint!("{}", outcome.told);
    let Some(path) = &arguments.output else { return print::answer(&outcome.rules, ExitCode::from(outcome.status)) };
    match fs::write(path, &outcome.rules) {
        Ok(()) => ExitCode::from(outcome.status),
        Err(error) => {
            eprintln!("cannot write `{}`: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

/// What came of the conversion.
struct Outcome {
    /// The rule file.
    rules: String,
    /// What is told of it.
    told: String,
    status: u8,
}

fn outcome(arguments: &ConvertArguments, styled: bool) -> Outcome {
    let options = Options {
        selector: arguments.selector.clone(),
        parser: arguments.parser.map(|parser| match parser {
            ConvertParser::Json => "json".to_owned(),
            ConvertParser::Logfmt => "logfmt".to_owned(),
        }),
        by: arguments.by.clone(),
    };
    let format = arguments.source.map(|source| match source {
        ConvertSource::Grafana => Format::Grafana,
        ConvertSource::Elastalert => Format::Elastalert,
        ConvertSource::Sigma => Format::Sigma,
    });
    let (mut all, mut told, mut unread) = (Conversion::default(), String::new(), false);
    for path in &arguments.paths {
        let Ok(files) = files_at(path).map_err(|error| (unread, told) = (true, format!("{told}{error}\n"))) else {
            continue;
        };
        for file in files {
            let name = file.display().to_string();
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) => {
                    (unread, told) = (true, format!("{told}cannot read `{name}`: {error}\n"));
                    continue;
                }
            };
            let notes = match convert::convert(&name, &text, format, &options) {
                Ok(conversion) => {
                    let notes = conversion.notes.clone();
                    all.append(conversion);
                    notes
                }
                Err(mistakes) => {
                    all.notes.extend(mistakes.iter().cloned());
                    mistakes
                }
            };
            told += &rendered(&notes, &text, styled);
        }
    }
    told += &summary(&all);
    Outcome { rules: all.rule_file(), told, status: if unread { 2 } else { u8::from(all.refused() > 0) } }
}

/// The file, or the files in the folder and in those below it.
fn files_at(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = files_below(path)?;
    let is_source = |path: &PathBuf| path.extension().is_some_and(|ending| SOURCES.iter().any(|one| ending == *one));
    files.retain(is_source);
    Ok(files)
}

/// How the names of files end that may hold rules of others.
const SOURCES: &[&str] = &["yaml", "yml", "json"];

fn rendered(notes: &[Diagnostic], text: &str, styled: bool) -> String {
    let shown = notes.iter().map(|note| if styled { note.render_styled(text) } else { note.render(text) });
    shown.map(|note| note + "\n\n").collect()
}

fn summary(all: &Conversion) -> String {
    let (refused, rules) = (all.refused(), all.rules());
    let losses = all.notes.len() - refused;
    let rules = if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
    let losses = if losses == 1 { "1 loss".to_owned() } else { format!("{losses} losses") };
    format!("{rules} converted, {refused} not, {losses}\n")
}

#[cfg(test)]
mod tests;
