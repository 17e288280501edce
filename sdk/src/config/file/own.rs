//! What of the file says which log records are made: the loggers' configurations, and under `distribution` what is Watchbell's own.

use std::path::PathBuf;
use std::sync::Arc;

use tracing_core::LevelFilter;

use super::{Env, File, Map, Node, boolean, get, text, values};
use crate::config::{LevelsUrl, OwnSettings};
use crate::lane::WhenFull;
use crate::levels::Directives;
use crate::redact::{self, Redaction};
use crate::restraint::Rules;
use crate::severity;
use crate::sink::Sink;
use crate::spool::Spool;
use crate::view;

/// `distribution: {watchbell: ...}`, with the loggers' configurations laid under it.
pub(super) struct Own {
    pub(super) levels: Directives,
    pub(super) levels_file: Option<PathBuf>,
    pub(super) levels_url: Option<LevelsUrl>,
    pub(super) restraint: Rules,
    pub(super) spool: Option<Spool>,
    pub(super) sinks: Vec<Sink>,
    pub(super) settings: OwnSettings,
}

/// What there may be of it.
const NAMES: [&str; 14] = [
    "levels",
    "levels_file",
    "levels_url",
    "levels_interval",
    "restrain",
    "sinks",
    "spool",
    "redact",
    "baggage_attributes",
    "buffer_bytes_max",
    "when_full",
    "block_timeout",
    "shutdown_timeout",
    "panics",
];

impl File {
    /// Reads it; `WATCHBELL_*` and `RUST_LOG` count where the file says nothing, `RUST_LOG` also where it does.
    pub(super) fn own(&mut self, distribution: Option<&Node>, logger_provider: Map<'_>, env: &mut Env) -> Own {
        let distribution = self.map(distribution);
        let own = self.map(get(distribution, "watchbell")); // other entries are for other SDKs
        self.only(own, &NAMES);
        let levels = self.scalar(own, "levels", str::parse);
        let interval = self.scalar(own, "levels_interval", values::millis).unwrap_or(LevelsUrl::INTERVAL);
        let levels_url = self.scalar(own, "levels_url", |url| LevelsUrl::new(url, interval));
        let mut restraint = self.scalar(own, "restrain", str::parse).unwrap_or_else(|| env.restraint());
        let of_loggers = self.loggers(get(logger_provider, "logger_configurator/development"), &mut restraint);
        Own {
            levels: match env.is_set("RUST_LOG") {
                true => env.levels(),
                false => levels.or(of_loggers).unwrap_or(Directives::all(LevelFilter::INFO)),
            },
            levels_file: self.scalar(own, "levels_file", |path| Ok(PathBuf::from(path))),
            levels_url: levels_url.or_else(|| env.levels_url()),
            restraint,
            spool: match get(own, "spool") {
                Some(node) => self.spool(node),
                None => env.spool(),
            },
            sinks: match get(own, "sinks") {
                Some(node) => self.sinks(node),
                None => env.sinks(),
            },
            settings: self.own_settings(own, env),
        }
    }

    fn own_settings(&mut self, own: Map<'_>, env: &mut Env) -> OwnSettings {
        let told = env.own();
        let block_timeout = self.scalar(own, "block_timeout", values::millis);
        let when_full = self.scalar(own, "when_full", str::parse).map(|when_full| match (when_full, block_timeout) {
            (WhenFull::Block(_), Some(timeout)) => WhenFull::Block(timeout),
            _ => when_full,
        });
        let bytes = |bytes: &str| usize::try_from(values::bytes(bytes)?).map_err(|error| error.to_string());
        OwnSettings {
            redaction: self.redaction(own, env).or(told.redaction),
            baggage_attributes: match get(own, "baggage_attributes") {
                Some(node) => self.list(Some(node)).iter().filter_map(text).map(str::to_owned).collect(),
                None => told.baggage_attributes,
            },
            buffer_bytes_max: self.scalar(own, "buffer_bytes_max", bytes).or(told.buffer_bytes_max),
            when_full: when_full.or(told.when_full),
            shutdown_timeout: self.scalar(own, "shutdown_timeout", values::millis).or(told.shutdown_timeout),
            panics: self.scalar(own, "panics", boolean).or(told.panics),
        }
    }

    /// As `WATCHBELL_REDACT`; what values are hashed under is told by the environment alone.
    fn redaction(&mut self, own: Map<'_>, env: &mut Env) -> Option<Arc<Redaction>> {
        let list = self.scalar(own, "redact", |list| Ok(list.to_owned()))?;
        let (redaction, wrong) = redact::listed(&list, env.hash_key().as_deref().map(str::as_bytes));
        let place = get(own, "redact")?.place;
        wrong.iter().for_each(|wrong| self.tell(place, wrong));
        Some(Arc::new(redaction))
    }

    fn spool(&mut self, node: &Node) -> Option<Spool> {
        let map = self.map(Some(node));
        self.only(map, &["dir", "bytes_max", "when_full", "mapped"]);
        let Some(dir) = self.scalar(map, "dir", |dir| Ok(PathBuf::from(dir))) else {
            self.wrong(node.place, "`dir` is missing: the spool's folder");
            return None;
        };
        let mut spool = Spool::in_dir(dir);
        spool = self.scalar(map, "bytes_max", values::bytes).into_iter().fold(spool, Spool::bytes_max);
        spool = self.scalar(map, "when_full", str::parse).into_iter().fold(spool, Spool::at_cap);
        Some(if self.scalar(map, "mapped", boolean) == Some(true) { spool.mapped() } else { spool })
    }

    /// Each as in `WATCHBELL_SINKS`.
    fn sinks(&mut self, node: &Node) -> Vec<Sink> {
        let mut sinks = Vec::new();
        for node in self.list(Some(node)) {
            match text(node).ok_or_else(|| "is no scalar".to_owned()).and_then(str::parse) {
                Ok(sink) => sinks.push(sink),
                Err(error) => self.wrong(node.place, &error),
            }
        }
        sinks
    }

    /// The levels that loggers are given; whose records go by their trace is added to what holds back.
    fn loggers(&mut self, node: Option<&Node>, restraint: &mut Rules) -> Option<Directives> {
        let configurator = self.map(Some(node?));
        self.only(configurator, &["default_config", "loggers"]);
        let (level, is_by_trace) = self.logger(get(configurator, "default_config"));
        let mut levels = Directives::all(level.unwrap_or(LevelFilter::INFO));
        if is_by_trace {
            restraint.take_sampled("");
        }
        for node in self.list(get(configurator, "loggers")) {
            let logger = self.map(Some(node));
            self.only(logger, &["name", "config"]);
            let Some(name) = self.scalar(logger, "name", target) else { continue };
            let (level, is_by_trace) = self.logger(get(logger, "config"));
            if let Some(level) = level {
                levels.set(&name, level);
            }
            if is_by_trace {
                restraint.take_sampled(&name);
            }
        }
        Some(levels)
    }

    /// The least severe level of a logger's records, if that is said, and whether only those of sampled traces are wanted.
    fn logger(&mut self, node: Option<&Node>) -> (Option<LevelFilter>, bool) {
        let config = self.map(node);
        self.only(config, &["enabled", "disabled", "minimum_severity", "trace_based"]);
        let is_off = self.scalar(config, "enabled", boolean).is_some_and(|is_on| !is_on)
            || self.scalar(config, "disabled", boolean).unwrap_or(false);
        let level = self.scalar(config, "minimum_severity", minimum);
        let level = if is_off { Some(LevelFilter::OFF) } else { level };
        (level, self.scalar(config, "trace_based", boolean).unwrap_or(false))
    }
}

/// A logger's name is a target, with all below it. `checkout.*` and `checkout::*` are that, too.
fn target(name: &str) -> Result<String, String> {
    let target = name.trim_end_matches('*').trim_end_matches(['.', ':']);
    match target.contains(['*', '?']) {
        false => Ok(target.to_owned()),
        true => Err(format!("`{name}` has a wildcard elsewhere than at its end; write `checkout` or `checkout.*`")),
    }
}

/// A severity between two levels keeps the records of the more severe.
fn minimum(name: &str) -> Result<LevelFilter, String> {
    let wanted = "write `trace`, `debug`, `info`, `warn`, `error` or one of these with 2, 3 or 4 behind it";
    let (number, _) = severity::named(name).ok_or_else(|| format!("`{name}` is not a severity; {wanted}"))?;
    let next_level = (number - 1).div_ceil(4) * 4 + 1;
    Ok(if next_level > 17 { LevelFilter::OFF } else { view::level(next_level).into() })
}
