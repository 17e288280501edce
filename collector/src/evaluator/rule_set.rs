//! What a change of rules writes into the log: the text of the rule files, how they are judged and who is told, so that a replay goes by them again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::config::PolicyConfig;
use watchbell_rules::diagnostic::Diagnostic;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;

/// Rule files, the engine's settings and the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// In the order they are loaded.
    pub files: Vec<RuleFileText>,
    /// `engine:` in the config; the defaults in a frame that was written before it held them.
    #[serde(default)]
    pub engine: EngineConfig,
    /// Who is told of which alerts.
    pub policy: PolicyConfig,
}

/// One rule file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleFileText {
    /// Its path, as messages and the API show it.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// What a rule set becomes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The rules, ready to match by.
    pub plan: Arc<Plan>,
    /// The policy.
    pub policy: PolicyConfig,
}

/// The last rule set that was checked: the evaluator, to which a frame brings it, need not compile it once more while all else waits.
#[derive(Clone, Debug, Default)]
pub struct Prepared(Arc<Mutex<Option<(u64, Compiled)>>>);

impl Prepared {
    /// Keeps what the frame of these bytes becomes.
    pub fn put(&self, frame: &[u8], compiled: Compiled) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((xxhash_rust::xxh3::xxh3_64(frame), compiled));
    }

    /// What the frame of these bytes becomes, if it is that.
    pub(super) fn take(&self, frame: &[u8]) -> Option<Compiled> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, compiled) = kept.take_if(|(hash, _)| *hash == xxhash_rust::xxh3::xxh3_64(frame))?;
        Some(compiled)
    }
}

/// Why a rule set is not to be used.
#[derive(Debug)]
pub enum RuleSetError {
    /// Rule files have mistakes; the text shows each with its line.
    Mistakes(String),
    /// The bytes are not a rule set's.
    Unreadable(serde_json::Error),
}

impl RuleSet {
    /// The bytes of a rules frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the bytes of a rules frame.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RuleSetError> {
        serde_json::from_slice(bytes).map_err(RuleSetError::Unreadable)
    }

    /// Parses and compiles all files.
    ///
    /// # Errors
    /// All mistakes in all files.
    pub fn compile(&self) -> Result<Compiled, RuleSetError> {
        self.compile_some(&|_| true)
    }

    /// The same of the rules alone whose keys are kept.
    ///
    /// # Errors
    /// All mistakes in them, and in how any file is written.
    pub fn compile_some(&self, keeps: &dyn Fn(&str) -> bool) -> Result<Compiled, RuleSetError> {
        let mut files = Vec::new();
        let mut mistakes = Vec::new();
        for file in &self.files {
            match rule_file::parse(&file.path, &file.text) {
                Ok(parsed) => files.push(parsed),
                Err(found) => mistakes.extend(found),
            }
        }
        if mistakes.is_empty() {
            match Plan::compile_some(&files, &self.engine, keeps) {
                Ok(plan) => return Ok(Compiled { plan: Arc::new(plan), policy: self.policy.clone() }),
                Err(found) => mistakes = found,
            }
        }
        Err(RuleSetError::Mistakes(self.show(&mistakes)))
    }

    /// Whether a file has a rule with one of these keys; where it cannot be told it may.
    pub(super) fn has_rules(&self, file: &RuleFileText, keys: &BTreeSet<String>) -> bool {
        let alone = Self { files: vec![file.clone()], ..self.clone() };
        alone.compile_some(&|key| keys.contains(key)).map_or(true, |compiled| !compiled.plan.is_empty())
    }

    /// The mistakes with the lines they are in.
    fn show(&self, mistakes: &[Diagnostic]) -> String {
        let text_of = |path: &str| self.files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
        mistakes.iter().map(|mistake| mistake.render(text_of(&mistake.file))).collect::<Vec<_>>().join("\n\n")
    }
}

impl std::fmt::Display for RuleSetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mistakes(shown) => f.write_str(shown),
            Self::Unreadable(error) => write!(f, "not a rule set: {error}"),
        }
    }
}

impl std::error::Error for RuleSetError {}
