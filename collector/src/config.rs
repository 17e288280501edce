//! The config file. It is wholly parsed before anything is opened or bound; each part belongs to the module that it configures.

pub mod duration;
pub mod environment;
pub mod range;
pub mod reader;
pub mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use watchbell_rules::diagnostic::Diagnostic;
use watchbell_rules::plan::EngineConfig;
use watchbell_rules::yaml;

use self::environment::Environment;
use crate::api::ApiConfig;
use crate::api::levels::Levels;
use crate::dedup::DedupConfig;
use crate::evaluator::rule_set::RuleFileText;
use crate::notify::Origin;
use crate::outbox::OutboxConfig;
use crate::wal::WalConfig;
use crate::{exporter, notify, receiver};

/// The whole file. Every key has a default.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where records come in.
    pub receivers: receiver::Config,
    /// Where records and samples go on to.
    pub exporters: exporter::Config,
    /// Rule files: paths and globs. Default `./rules/*.yaml` and `./rules/*.yml`.
    pub rule_files: Vec<String>,
    /// The folder of the logs and snapshots. Default `./data`.
    pub data_dir: PathBuf,
    /// The port for people and Prometheus.
    pub api: ApiConfig,
    /// Which records services make that ask for it, by the service's name: directives as the SDK's `RUST_LOG` has them (`info,checkout::db=debug`). Those of `*` are for all others.
    pub levels: Levels,
    /// Who is told of which alerts, in Alertmanager's own syntax. Without it pages go to stdout.
    pub alerting: Option<notify::AlertingConfig>,
    /// Alertmanagers that are told of every alert beside our own routing.
    pub alertmanagers: Vec<notify::alertmanager::Config>,
    /// Where a page's links lead.
    #[schemars(with = "BTreeMap<String, String>")]
    pub links: notify::Links,
    /// The address under which people reach this collector, for links back to it. Default `http://` and `api.endpoint`.
    pub external_url: Option<String>,
    /// What tells this collector from others, as Prometheus's `global.external_labels`: `$externalLabels` in the templates of rules, and
    /// added to the alerts that `alertmanagers` are told of where they have no label of that name.
    pub external_labels: BTreeMap<String, String>,
    /// How rules are judged, and its limits.
    pub engine: EngineConfig,
    /// The logs, each with these limits.
    pub wal: WalConfig,
    /// Limits of requests and records.
    pub limits: receiver::Limits,
    /// How requests that come twice are told.
    pub dedup: DedupConfig,
    /// How messages are sent and tried again.
    pub outbox: OutboxConfig,
    /// Time between two snapshots of the evaluator, less where the log fills up sooner; a restart replays at most about as much of the log. Default 30 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub snapshot_interval: Duration,
    /// How long a stop waits for what is under way. Default 20 s.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain_timeout: Duration,
    service: Foreign<Service>,
    processors: Foreign<Processors>,
    extensions: Foreign<Extensions>,
    connectors: Foreign<Connectors>,
    route: Foreign<Alertmanagers>,
    inhibit_rules: Foreign<Alertmanagers>,
    global: Foreign<Alertmanagers>,
    templates: Foreign<Alertmanagers>,
    time_intervals: Foreign<Alertmanagers>,
    groups: Foreign<Rules>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receivers: receiver::Config::default(),
            exporters: exporter::Config::default(),
            rule_files: vec!["./rules/*.yaml".to_owned(), "./rules/*.yml".to_owned()],
            data_dir: PathBuf::from("./data"),
            api: ApiConfig::default(),
            levels: Levels::default(),
            alerting: None,
            alertmanagers: Vec::new(),
            links: notify::Links::default(),
            external_url: None,
            external_labels: BTreeMap::new(),
            engine: EngineConfig::default(),
            wal: WalConfig::default(),
            limits: receiver::Limits::default(),
            dedup: DedupConfig::default(),
            outbox: OutboxConfig::default(),
            snapshot_interval: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
            service: Foreign::default(),
            processors: Foreign::default(),
            extensions: Foreign::default(),
            connectors: Foreign::default(),
            route: Foreign::default(),
            inhibit_rules: Foreign::default(),
            global: Foreign::default(),
            templates: Foreign::default(),
            time_intervals: Foreign::default(),
            groups: Foreign::default(),
        }
    }
}

/// Why a config or the files it names cannot be used; ready to be shown.
#[derive(Debug)]
pub enum ConfigError {
    /// What is written there is wrong.
    Mistake(String),
    /// A file cannot be read.
    Unreadable(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistake(text) | Self::Unreadable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and parses a file; without one, everything has its default.
    ///
    /// # Errors
    /// The file cannot be read or has mistakes, each shown with its place.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable(format!("cannot read `{}`: {error}", path.display())))?;
        Self::parse(&path.display().to_string(), &text, |name| std::env::var(name).ok())
    }

    /// Parses a config; `variable` gives the environment's values for `${env:NAME}`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(path: &str, text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let environment = Environment::of(text, variable);
        let read = || {
            let mut tree = yaml::parse(&environment.mask(text)).map_err(|mistake| vec![mistake])?;
            environment.fill(&mut tree)?;
            reader::read(tree)
        };
        read().map_err(|mistakes: Vec<Diagnostic>| {
            // The values may be secrets, and this is answered over HTTP.
            let hidden = |mistake: Diagnostic| Diagnostic { message: environment.hide(mistake.message), ..mistake };
            rendered(path, text, mistakes.into_iter().map(hidden))
        })
    }

    /// How rules are judged, with what their templates need of the rest of the config.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            external_url: self.external_url(),
            external_labels: self.external_labels.clone(),
            links: self.links.clone(),
            ..self.engine.clone()
        }
    }

    /// The address under which people reach this collector.
    pub fn external_url(&self) -> String {
        self.external_url.clone().unwrap_or_else(|| format!("http://{}", self.api.endpoint))
    }

    /// Where the links in messages lead.
    pub fn origin(&self) -> Origin {
        Origin { links: Arc::new(self.links.clone()), external_url: self.external_url().into() }
    }

    /// Reads the rule files that `rule_files` names, sorted, each once.
    ///
    /// # Errors
    /// A glob is malformed, a file cannot be read, or a path without wildcard names no file.
    pub fn read_rule_files(&self) -> Result<Vec<RuleFileText>, ConfigError> {
        let mut paths = Vec::new();
        for pattern in &self.rule_files {
            paths.extend(matching_files(pattern)?);
        }
        paths.sort();
        paths.dedup();
        paths.iter().map(|path| read_rule_file(path)).collect()
    }
}

pub(crate) fn matching_files(pattern: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let found = glob::glob(pattern)
        .map_err(|error| ConfigError::Mistake(format!("rule_files: `{pattern}` is no path pattern: {error}")))?;
    let paths: Vec<PathBuf> = found
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError::Unreadable(format!("rule_files: `{pattern}`: {error}")))?;
    if paths.is_empty() && !pattern.contains(['*', '?', '[']) {
        return Err(ConfigError::Mistake(format!("rule_files: there is no file `{pattern}`")));
    }
    Ok(paths)
}

/// Reads one rule file.
///
/// # Errors
/// It cannot be read.
pub fn read_rule_file(path: &Path) -> Result<RuleFileText, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable(format!("cannot read the rule file `{}`: {error}", path.display())))?;
    Ok(RuleFileText { path: path.display().to_string(), text })
}

fn rendered(path: &str, text: &str, diagnostics: impl IntoIterator<Item = Diagnostic>) -> ConfigError {
    let shown = diagnostics.into_iter().map(|mut diagnostic| {
        diagnostic.file = path.into();
        diagnostic.render(text)
    });
    ConfigError::Mistake(shown.collect::<Vec<_>>().join("\n\n"))
}

/// A key that a config pasted from the OpenTelemetry Collector or Alertmanager may have, and that means nothing here: to have it is an error that explains.
#[derive(Debug)]
struct Foreign<Why>(std::marker::PhantomData<Why>);

impl<Why> Default for Foreign<Why> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<'de, Why: Explanation> Deserialize<'de> for Foreign<Why> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom(Why::TEXT))
    }
}

impl<Why> schemars::JsonSchema for Foreign<Why> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Foreign".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        false.into() // no value is allowed
    }
}

/// They are not listed among the known keys.
const FOREIGN_KEYS: [&str; 10] = [
    "service",
    "processors",
    "extensions",
    "connectors",
    "route",
    "inhibit_rules",
    "global",
    "templates",
    "time_intervals",
    "groups",
];

trait Explanation {
    const TEXT: &'static str;
}

macro_rules! explain {
    ($($name:ident: $text:literal;)*) => {$(
        #[derive(Debug)]
        struct $name;
        impl Explanation for $name {
            const TEXT: &'static str = $text;
        }
    )*};
}

explain! {
    Service: "the OpenTelemetry Collector's: here every receiver feeds every exporter, and an exporter's `signals` says what it gets; delete \
              the block";
    Processors: "the OpenTelemetry Collector's: batches are passed on as they came; joining, retries and limits are settings of each exporter \
                 and of `limits`; delete the block";
    Extensions: "the OpenTelemetry Collector's: health is on `api.endpoint` (`/-/healthy`, `/-/ready`); delete the block";
    Connectors: "the OpenTelemetry Collector's: computed series come from recording rules; delete the block";
    Alertmanagers: "Alertmanager's: `route`, `receivers` and `global` stand below `alerting:`, spelt as in Alertmanager's own file";
    Rules: "a rule file's: rules stand in files of their own, which `rule_files` names";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse("config.yaml", text, |_| None).unwrap_err().to_string()
    }

    #[test]
    fn everything_has_a_default() {
        for text in ["", "# nothing\n", "{}"] {
            let config = Config::parse("config.yaml", text, |_| None).unwrap();
            assert_eq!(config.api.endpoint.to_string(), "127.0.0.1:9430");
            assert!(config.exporters.0.is_empty());
        }
    }

    #[test]
    fn the_examples_are_right() {
        let parse = |text| Config::parse("config.yaml", text, |name| Some(format!("/nowhere/{name}")));
        let config = parse(include_str!("../../examples/config/watchbell.yaml")).unwrap();
        assert_eq!(config.exporters.0.len(), 4);
        let config = Config { rule_files: Vec::new(), ..config };
        crate::pipeline::check(&config).unwrap();
        let demo = include_str!("../../examples/config/demo.yaml").replace("${env:DEMO_API}", "127.0.0.1:9430");
        Config::parse("demo.yaml", &demo, |name| Some(name.to_owned())).unwrap();
    }

    /// The blocks of YAML in docs/config.md.
    fn reference() -> Vec<&'static str> {
        let blocks = include_str!("../../docs/config.md").split("```yaml\n").skip(1);
        blocks.map(|block| block.split("```").next().unwrap()).collect()
    }

    #[test]
    fn the_reference_tells_the_defaults() {
        let told = Config::parse("config.md", reference()[0], |_| None).unwrap();
        assert_eq!(format!("{told:#?}"), format!("{:#?}", Config::default()));
    }

    #[test]
    fn the_reference_is_right() {
        for block in reference().into_iter().filter(|block| !block.starts_with("groups:")) {
            let config = Config::parse("config.md", block, |_| None).unwrap_or_else(|error| panic!("{error}"));
            let config = Config { rule_files: Vec::new(), ..config };
            if !block.contains("_file:") {
                crate::pipeline::check(&config).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        let rules = reference().into_iter().find(|block| block.starts_with("groups:")).unwrap();
        watchbell_rules::rule_file::parse("config.md", rules).unwrap();
    }

    #[test]
    fn the_reference_has_every_key() {
        let reference = include_str!("../../docs/config.md");
        for block in ["", "api", "engine", "limits", "wal", "dedup", "outbox"] {
            let text = if block.is_empty() { "x: 1".to_owned() } else { format!("{block}: {{x: 1}}") };
            let known = error(&text).split("known here: ").nth(1).unwrap().lines().next().unwrap().to_owned();
            for key in known.split(", ") {
                let key = key.trim_matches('`');
                assert!(reference.contains(&format!("{key}:")), "docs/config.md does not have `{key}` of `{block}`");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_shown_with_what_was_meant() {
        assert_eq!(
            error("data_dir: x\napi: {endpint: '127.0.0.1:1'}\n"),
            "error[WB002]: unknown key `endpint`\n --> config.yaml:2:7\n  |\n2 | api: {endpint: '127.0.0.1:1'}\n  |       ^^^^^^^ known here: `endpoint`, `loki`\n  |\n  = help: did you mean `endpoint`?"
        );
    }

    #[test]
    fn the_engine_is_not_given_what_stands_beside_it() {
        let told = error("external_url: http://x\nengine: {links: {trace: x}, latness: 1s}\n");
        assert!(told.contains("`links` stands beside `engine`, not in it"), "{told}");
        assert!(told.contains("did you mean `lateness`?") && !told.contains("`external_url`,"), "{told}");
    }

    #[test]
    fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
        let text = "\
data_dri: x
api:
  endpoint: nowhere
wal:
  segment_bytes: 64 parsecs
  segment_bytes: 1MiB
exporters:
  loki: {timeout: 5 years}
  splunk: {}
rule_files: rules.yaml
alertmanagers:
  - {timeout: 10s}
service: {pipelines: {}}
limits: {requests_bytes_max: many, record_bytes_max: -1}
drain_timeout: [1s]
";
        let told = error(text);
        let heads: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
        let places: Vec<&str> = told.lines().filter_map(|line| line.split("--> config.yaml:").nth(1)).collect();
        assert_eq!(heads.len(), places.len(), "{told}");
        let seen: Vec<String> = heads.iter().zip(&places).map(|(head, place)| format!("{place} {head}")).collect();
        let expected = include_str!("../testdata/config_mistakes.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write("testdata/config_mistakes.txt", format!("{}\n", seen.join("\n"))).unwrap();
        } else {
            assert_eq!(format!("{}\n", seen.join("\n")), expected);
        }
    }

    #[test]
    fn sizes_have_units() {
        let config =
            Config::parse("c", "wal: {segment_bytes: 16MiB}\nlimits: {record_bytes_max: 1.5 kB}", |_| None).unwrap();
        assert_eq!((config.wal.segment_bytes, config.limits.record_bytes_max), (16 << 20, 1500));
        assert!(error("outbox: {unwritten_outcomes_max: 1KiB}").contains("`1KiB` is no whole number"));
    }

    #[test]
    fn an_alertmanagers_file_is_told_where_it_belongs() {
        let said = error("route: {receiver: a}\nreceivers:\n  - name: a\n");
        assert!(said.contains("below `alerting:`") && said.contains("--> config.yaml:2:1"), "{said}");
    }

    #[test]
    fn a_block_with_nothing_in_it_has_its_defaults() {
        let told =
            Config::parse("c", "api:\nwal:\nexporters:\nrule_files: ['./rules/*.yaml', './rules/*.yml']", |_| None);
        assert_eq!(format!("{:?}", told.unwrap()), format!("{:?}", Config::default()));
    }

    #[test]
    fn a_mistake_shows_no_value_of_the_environment() {
        for text in [
            "api: {endpoint: '${env:SECRET}'}\n",
            "data_dir: ${env:SECRET}\nsnapshot_interval: ${env:SECRET}\n",
            "receivers: {otlp: ${env:SECRET}}\n",
            "api: {endpoint: x${env:SECRET}y}\n",
            "exporters: {loki: {endpoint: 'http://x', timeout: '${env:SECRET}'}}\n",
        ] {
            let error = Config::parse("config.yaml", text, |_| Some("hunter2".to_owned())).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("${env:SECRET}"), "{error}");
        }
    }

    #[test]
    fn a_number_that_nothing_works_with_is_an_error() {
        for (text, said) in [
            ("wal: {segment_bytes: 4294967296}", "at most"),
            ("outbox: {sending_per_integration_max: 0}", "at least 1"),
            ("outbox: {unwritten_outcomes_max: 0}", "at least 1"),
            ("limits: {receiver_connections_max: 0}", "at least 1"),
            ("exporters: {loki: {endpoint: 'http://x', sending_queue: {queue_bytes_max: 0}}}", "at least 1"),
        ] {
            let error = error(text);
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn keys_of_others_are_explained() {
        for key in FOREIGN_KEYS {
            let said = error(&format!("{key}: {{x: 1}}\n"));
            let owners = ["the OpenTelemetry Collector's: ", "Alertmanager's: ", "a rule file's: "];
            assert!(owners.iter().any(|owner| said.contains(owner)), "{said}");
            assert!(said.contains("--> config.yaml:1:1"), "{said}");
        }
    }

    #[test]
    fn a_rule_file_that_is_named_and_not_there_is_an_error() {
        let config = Config { rule_files: vec!["/nowhere/x.yaml".to_owned()], ..Config::default() };
        assert!(config.read_rule_files().unwrap_err().to_string().contains("there is no file `/nowhere/x.yaml`"));
        let config = Config { rule_files: vec!["/nowhere/*.yaml".to_owned()], ..Config::default() };
        assert_eq!(config.read_rule_files().unwrap(), []);
    }
}
