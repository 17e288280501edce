//! Puts the parts together and maps them to threads and tasks: the only file that imports them all.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use axum::body::Body;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use watchbell_proto::otlp::Signal;
use watchbell_rules::engine::RuleStatus;
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::time::Timestamp;

use crate::api;
use crate::api::levels::Levels;
use crate::api::loki::Loki;
use crate::clock::SharedClock;
use crate::config::{Config, ConfigError};
use crate::dedup::{self, Door};
use crate::evaluator::frame_of;
use crate::evaluator::rule_set::{Compiled, Prepared, RuleSet};
use crate::evaluator::runner::{self, Parts, Request};
use crate::evaluator::snapshot::SnapshotStore;
use crate::exporter::{self, Exporters};
use crate::notify::alertmanager::{self, Feed};
use crate::notify::{CurrentNotifiers, Notifiers, Tools, stdout};
use crate::outbox::{self, Outbox};
use crate::receiver::{self, Doors, Keys, PushDoor, Receiver};
use crate::telemetry::Metrics;
use crate::wal::{self, AppendError, BoxFuture, DataDir, FrameKind, Log, Wal};

/// A collector that runs.
pub struct Pipeline {
    shared: Arc<Shared>,
    wals: Vec<Arc<Wal>>,
    receiver: Receiver,
    exporters: Exporters,
    evaluator: thread::JoinHandle<()>,
    api: tokio::task::JoinHandle<io::Result<()>>,
    api_stop: oneshot::Sender<()>,
    feeds_stop: watch::Sender<bool>,
    drain_timeout: Duration,
    /// Held until the end: one process a data folder.
    _data_dir: DataDir,
}

/// Why a collector did not start.
#[derive(Debug)]
pub enum StartError {
    /// The config, or a file that it names, is wrong.
    Config(ConfigError),
    /// The machine did not give what the config asks for.
    System(String),
}

impl Pipeline {
    /// Starts everything; when it returns, records are taken.
    ///
    /// # Errors
    /// Nothing is left running then.
    pub async fn start(config: Config, config_path: Option<PathBuf>, clock: SharedClock) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        let tools = tools(&config, &clock, &metrics)?;
        let (rules, compiled, notifiers) = load(&config, &tools)?;
        let prepared = Prepared::default();
        let keys = Keys::read(&config.receivers).map_err(|error| ConfigError::Mistake(error.to_string()))?;
        let data_dir = DataDir::open(&config.data_dir).map_err(|error| StartError::System(error.to_string()))?;
        let listener = TcpListener::bind(config.api.endpoint)
            .await
            .map_err(system(format!("api.endpoint: cannot listen on `{}`", config.api.endpoint)))?;
        let (wals, doors) = open_logs(&data_dir, &config, &clock, &metrics)?;
        let log = Arc::clone(doors.of(Signal::Logs).log());
        let exporters = start_exporters(&config, &doors, &clock, &metrics)?;
        let feeds = feeds(&config, &tools, &metrics)?;
        let parts = EvaluatorParts {
            notifiers,
            prepared: prepared.clone(),
            samples: exporters.samples(),
            feeds: feeds.clone(),
        };
        let (requests, notifiers, evaluator) = start_evaluator(&config, &log, parts, &clock, &metrics)?;
        let (feeds_stop, stopped) = watch::channel(false);
        feeds.into_iter().for_each(|feed| drop(tokio::spawn(feed.run(stopped.clone()))));
        let shared = Arc::new(Shared {
            config_path,
            log,
            requests,
            notifiers,
            prepared,
            tools,
            settled: Settled::of(&config),
            keys: keys.clone(),
            reload_metrics: metrics.register(ReloadMetrics::register),
            clock: Arc::clone(&clock),
            labels: Mutex::new(config.engine.labels.clone()),
            levels: Mutex::new(config.levels.clone()),
            reloading: tokio::sync::Mutex::new(()),
            draining: Mutex::new(false),
        });
        shared.put_in_force(&rules, compiled).await.map_err(|error| StartError::System(error.to_string()))?;
        shared.reload_metrics.succeeded(shared.clock.now());
        let receiver_metrics = metrics.register(receiver::Metrics::register);
        let receiver =
            Receiver::start(&config.receivers, &keys, &config.limits, doors, Arc::clone(&clock), receiver_metrics)
                .await
                .map_err(|error| StartError::System(error.to_string()))?;
        let (api_stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let collector: Arc<dyn api::Collector> = Arc::new(Arc::clone(&shared));
        let loki_metrics = metrics.register(api::loki::Metrics::register);
        let source = Arc::new(Arc::clone(&shared));
        let push = receiver.push_door().map(|door| Arc::new(door) as Arc<dyn api::loki::Push>);
        let loki = Loki::new(source, push, config.api.loki.clone(), clock, loki_metrics);
        let api = tokio::spawn(api::serve(listener, collector, metrics, loki, stopped));
        say_ready(&config, &receiver, rules.files.len());
        Ok(Self {
            shared,
            wals,
            receiver,
            exporters,
            evaluator,
            api,
            api_stop,
            feeds_stop,
            drain_timeout: config.drain_timeout,
            _data_dir: data_dir,
        })
    }

    /// Loads the rule files and `alerting:` again; tells which keys have changed that need a restart.
    ///
    /// # Errors
    /// What is wrong; what was loaded before stays in force, unless the log takes the rules later.
    pub fn reload(&self) -> impl Future<Output = Result<Vec<&'static str>, String>> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.reload().await }
    }

    /// Goes down in order: no new requests, what was taken is judged and its pages are sent, as far as `drain_timeout` allows. What is
    /// left follows from the log at the next start.
    pub async fn drain(self) {
        tracing::info!("draining");
        self.shared.set_draining();
        self.receiver.drain(self.drain_timeout).await;
        // The evaluator that is gone has nothing left to do.
        let _ = self.shared.requests.send(Request::Stop).await;
        let evaluator = tokio::task::spawn_blocking(move || self.evaluator.join());
        if tokio::time::timeout(self.drain_timeout, evaluator).await.is_err() {
            tracing::warn!("messages are still on their way; they are sent again at the next start");
        }
        self.exporters.drain(self.drain_timeout).await;
        self.feeds_stop.send_replace(true);
        let _ = self.api_stop.send(());
        let mut api = self.api;
        if tokio::time::timeout(self.drain_timeout, &mut api).await.is_err() {
            api.abort();
        }
        for wal in self.wals {
            wal.close();
        }
        tracing::info!("stopped");
    }
}

/// Reads what a config names, and checks all of it.
fn load(config: &Config, tools: &Tools) -> Result<(RuleSet, Compiled, Notifiers), ConfigError> {
    let notifiers = Notifiers::new(config.alerting.as_ref(), tools)
        .map_err(|error| ConfigError::Mistake(format!("alerting: {error}")))?;
    let (files, policy) = (config.read_rule_files()?, notifiers.policy().clone());
    let rules = RuleSet { files, engine: config.engine(), policy };
    let compiled = rules.compile().map_err(|error| ConfigError::Mistake(error.to_string()))?;
    config.exporters.check(&tools.clock).map_err(|error| ConfigError::Mistake(error.to_string()))?;
    Ok((rules, compiled, notifiers))
}

fn tools(config: &Config, clock: &SharedClock, metrics: &Metrics) -> Result<Tools, StartError> {
    let metrics = metrics.register(stdout::Metrics::register);
    Ok(Tools {
        clock: Arc::clone(clock),
        origin: config.origin(),
        external_labels: Arc::new(config.external_labels.clone()),
        stdout: stdout::Writer::start(io::stdout(), &metrics).map_err(system("cannot print pages"))?,
    })
}

/// Checks a config as far as that goes without starting anything.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let metrics = Metrics::default();
    let tools = tools(config, &crate::clock::SystemClock::shared(), &metrics);
    let tools = tools.map_err(|error| ConfigError::Mistake(error.to_string()))?;
    feeds(config, &tools, &metrics)?;
    Keys::read(&config.receivers).map_err(|error| ConfigError::Mistake(error.to_string()))?;
    load(config, &tools).map(|_| ())
}

fn open_logs(
    data_dir: &DataDir,
    config: &Config,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<(Vec<Arc<Wal>>, Doors), StartError> {
    let wal_metrics = metrics.register(wal::Metrics::register);
    let door_metrics = metrics.register(dedup::Metrics::register);
    let mut wals = Vec::new();
    let mut open = |signal: Signal| {
        let wal = Wal::open(data_dir, signal.name(), config.wal.clone(), Arc::clone(clock), &wal_metrics)?;
        let wal = Arc::new(wal);
        wals.push(Arc::clone(&wal));
        let door = Door::open(wal, config.dedup.clone(), Arc::clone(clock))?;
        Ok(door.counted(&door_metrics, signal.name()))
    };
    let failed = || system(format!("cannot open the log in `{}`", config.data_dir.display()));
    let doors = Doors {
        logs: open(Signal::Logs).map_err(failed())?,
        traces: open(Signal::Traces).map_err(failed())?,
        metrics: open(Signal::Metrics).map_err(failed())?,
    };
    Ok((wals, doors))
}

fn say_ready(config: &Config, receiver: &Receiver, rule_files: usize) {
    if rule_files == 0 {
        tracing::warn!(rule_files = ?config.rule_files, "there is no rule file: nothing is judged");
    }
    tracing::info!(
        grpc = receiver.grpc_address().map(tracing::field::display), http = receiver.http_address().map(tracing::field::display),
        api = %config.api.endpoint, data_dir = %config.data_dir.display(), rule_files, "ready"
    );
}

fn start_exporters(
    config: &Config,
    doors: &Doors,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<Exporters, StartError> {
    let log_of = |signal| Arc::clone(doors.of(signal).log());
    let metrics = metrics.register(exporter::Metrics::register);
    Exporters::start(&config.exporters, log_of, Arc::clone(clock), metrics)
        .map_err(|error| StartError::Config(ConfigError::Mistake(error.to_string())))
}

/// One for each of `alertmanagers:`.
fn feeds(config: &Config, tools: &Tools, metrics: &Metrics) -> Result<Vec<Arc<Feed>>, ConfigError> {
    let metrics = metrics.register(alertmanager::Metrics::register);
    let feed = |config| Feed::new(config, tools, &metrics).map(Arc::new);
    let feeds = config.alertmanagers.iter().map(feed).collect::<Result<_, _>>();
    feeds.map_err(|error| ConfigError::Mistake(format!("alertmanagers: {error}")))
}

type EvaluatorHandles = (mpsc::Sender<Request>, watch::Sender<Arc<Notifiers>>, thread::JoinHandle<()>);

/// What the evaluator works with that others have made.
struct EvaluatorParts {
    notifiers: Notifiers,
    prepared: Prepared,
    samples: exporter::Samples,
    feeds: Vec<Arc<Feed>>,
}

fn start_evaluator(
    config: &Config,
    log: &Arc<dyn Log>,
    EvaluatorParts { notifiers, prepared, samples, feeds }: EvaluatorParts,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<EvaluatorHandles, StartError> {
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let (notifiers, latest_notifiers) = watch::channel(Arc::new(notifiers));
    let outbox_metrics = metrics.register(outbox::Metrics::register);
    let outbox_config = config.outbox.clone();
    let seed = clock.now().nanos().unsigned_abs();
    let store = SnapshotStore::open(&config.data_dir.join("snapshots")).map_err(system("cannot open the snapshots"))?;
    let thread = runner::start(Parts {
        log: Arc::clone(log),
        store: Arc::new(store),
        outbox: Box::new(move || Outbox::new(outbox_config.clone(), seed, outbox_metrics.clone())),
        prepared,
        clock: Arc::clone(clock),
        notifiers: CurrentNotifiers::new(latest_notifiers),
        runtime: tokio::runtime::Handle::current(),
        samples: Box::new(move |_, sample| samples.send(&sample)),
        feeds,
        requests: requested,
        metrics: metrics.register(runner::Metrics::register),
        snapshot_interval: config.snapshot_interval,
    })
    .map_err(system("cannot start the evaluator"))?;
    Ok((requests, notifiers, thread))
}

/// What the API and the signals work on.
struct Shared {
    config_path: Option<PathBuf>,
    log: Arc<dyn Log>,
    requests: mpsc::Sender<Request>,
    notifiers: watch::Sender<Arc<Notifiers>>,
    prepared: Prepared,
    tools: Tools,
    settled: Settled,
    keys: Keys,
    reload_metrics: ReloadMetrics,
    clock: SharedClock,
    /// What makes index labels of attributes.
    labels: Mutex<LabelConfig>,
    levels: Mutex<Levels>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    draining: Mutex<bool>,
}

impl Shared {
    async fn reload(&self) -> Result<Vec<&'static str>, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let reloaded = self.load_again().await;
        match &reloaded {
            Ok(left_out) => {
                self.reload_metrics.succeeded(self.clock.now());
                if !left_out.is_empty() {
                    tracing::warn!(?left_out, "these keys have changed and need a restart");
                }
            }
            Err(_) => self.reload_metrics.failed(),
        }
        reloaded
    }

    async fn load_again(&self) -> Result<Vec<&'static str>, String> {
        let config = Config::load(self.config_path.as_deref()).map_err(|error| error.to_string())?;
        let tools = Tools {
            origin: config.origin(),
            external_labels: Arc::new(config.external_labels.clone()),
            ..self.tools.clone()
        };
        // Thousands of rules take a while, for which none of the runtime's threads is to stand still.
        let loaded = tokio::task::spawn_blocking(move || load(&config, &tools).map(|loaded| (config, loaded)));
        let loaded = loaded.await.map_err(|error| error.to_string())?;
        let (config, (rules, compiled, notifiers)) = loaded.map_err(|error| error.to_string())?;
        self.keys.read_again().map_err(|error| error.to_string())?;
        // Before the policy is in the log: the evaluator takes them when it comes to it.
        let before = self.notifiers.send_replace(Arc::new(notifiers));
        match self.put_in_force(&rules, compiled).await {
            Ok(()) => {}
            // They come into force when the log takes them, and need their notifiers then.
            Err(error @ NotInForce::Waiting) => return Err(error.to_string()),
            Err(error) => {
                self.notifiers.send_replace(before);
                return Err(error.to_string());
            }
        }
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&config.engine.labels);
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&config.levels);
        tracing::info!(rule_files = rules.files.len(), "reloaded");
        Ok(self.settled.left_out(&config))
    }

    /// Appends the rules to the log: they are in force for the batches behind them.
    async fn put_in_force(&self, rules: &RuleSet, compiled: Compiled) -> Result<(), NotInForce> {
        let frame = rules.to_bytes();
        self.prepared.put(&frame, compiled);
        let append = self.log.append(frame_of(FrameKind::Rules, frame));
        let appended = tokio::time::timeout(APPEND_TIMEOUT, append).await.map_err(|_| NotInForce::Waiting)?;
        appended.map(drop).map_err(NotInForce::Refused)
    }

    fn set_draining(&self) {
        *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// What a reload cannot change, as it was at the start. Secrets do not print, and so are not compared.
struct Settled(Vec<(&'static str, String)>);

impl Settled {
    fn of(config: &Config) -> Self {
        Self(vec![
            ("receivers", format!("{:?}", config.receivers)),
            ("exporters", format!("{:?}", config.exporters)),
            ("data_dir", format!("{:?}", config.data_dir)),
            ("api", format!("{:?}", config.api)),
            ("alertmanagers", format!("{:?}", config.alertmanagers)),
            ("wal", format!("{:?}", config.wal)),
            ("limits", format!("{:?}", config.limits)),
            ("dedup", format!("{:?}", config.dedup)),
            ("outbox", format!("{:?}", config.outbox)),
            ("snapshot_interval", format!("{:?}", config.snapshot_interval)),
            ("drain_timeout", format!("{:?}", config.drain_timeout)),
        ])
    }

    /// Keys whose values have changed since.
    fn left_out(&self, config: &Config) -> Vec<&'static str> {
        let now = Self::of(config).0;
        self.0.iter().zip(&now).filter(|(before, now)| before != now).map(|(before, _)| before.0).collect()
    }
}

/// How reloads went, called as in Prometheus.
struct ReloadMetrics {
    successful: Gauge,
    at: Gauge<f64, AtomicU64>,
}

impl ReloadMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self { successful: Gauge::default(), at: Gauge::default() };
        let help = "Whether the last reload of the config succeeded";
        registry.register("watchbell_config_last_reload_successful", help, metrics.successful.clone());
        let help = "When the config was last loaded, in seconds since 1970";
        registry.register("watchbell_config_last_reload_success_timestamp_seconds", help, metrics.at.clone());
        metrics
    }

    fn succeeded(&self, now: Timestamp) {
        self.successful.set(1);
        self.at.set(now.nanos() as f64 / 1e9);
    }

    fn failed(&self) {
        self.successful.set(0);
    }
}

/// Why new rules are not in force.
#[derive(Debug)]
enum NotInForce {
    /// The log has taken nothing for long.
    Waiting,
    Refused(AppendError),
}

impl fmt::Display for NotInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => write!(
                f,
                "the log has taken nothing for {APPEND_TIMEOUT:?} (is its disk full?): the rules come into force when it does"
            ),
            Self::Refused(error) => write!(f, "the rules cannot be written into the log: {error}"),
        }
    }
}

/// How long a reload waits for the log.
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

impl api::Collector for Arc<Shared> {
    fn ready(&self) -> Result<(), String> {
        let draining = *self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        if draining { Err("it is draining".to_owned()) } else { Ok(()) }
    }

    fn reload(&self) -> BoxFuture<Result<Vec<&'static str>, String>> {
        let shared = Arc::clone(self);
        Box::pin(async move { Shared::reload(&shared).await })
    }

    fn levels_of(&self, service: &str) -> Option<String> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).of(service).map(str::to_owned)
    }

    fn rules(&self) -> BoxFuture<Option<Vec<RuleStatus>>> {
        let requests = self.requests.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            requests.send(Request::Status(answer)).await.ok()?;
            answered.await.ok()
        })
    }
}

impl api::loki::Source for Arc<Shared> {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log)
    }

    fn labels(&self) -> LabelConfig {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl api::loki::Push for PushDoor {
    fn push(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>> {
        let door = self.clone();
        Box::pin(async move { door.answer(request).await.map(Body::new) })
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::System(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for StartError {}

fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System(format!("{what}: {error}"))
}

/// Questions that wait for the evaluator; more wait at whoever asks.
const REQUESTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_tells_what_needs_a_restart() {
        let config = |text: &str| Config::parse("c", text, |_| None).unwrap();
        let settled = Settled::of(&config(""));
        assert_eq!(settled.left_out(&config("external_url: http://x\nrule_files: []")), [""; 0]);
        let changed = config(
            "data_dir: elsewhere\nreceivers: {otlp: {protocols: {grpc: {}}}}\nexporters: {loki: {endpoint: 'http://x'}}",
        );
        assert_eq!(settled.left_out(&changed), ["receivers", "exporters", "data_dir"]);
    }

    #[test]
    fn ports_are_checked_before_anything_is_opened() {
        let check = |port: &str| {
            let text = format!("rule_files: []\nreceivers: {{otlp: {{protocols: {{http: {port}}}}}}}");
            check(&Config::parse("c", &text, |_| None).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(check("{endpoint: 'localhost:0'}"), Ok(()));
        for (port, said) in [
            (
                "{endpoint: '4318'}",
                "receivers.otlp: protocols.http: `4318` is no endpoint to listen on: write `host:port`",
            ),
            ("{endpoint: 'http://localhost:4318'}", "is no endpoint to listen on"),
            ("{endpoint: 'a:99999'}", "is no endpoint to listen on"),
            (
                "{tls: {cert_file: /nowhere.crt, key_file: /nowhere.key}}",
                "cannot read certificates from `/nowhere.crt`",
            ),
            ("{auth: {bearer_token_file: /nowhere}}", "cannot read `bearer_token_file`"),
        ] {
            let wrong = check(port).unwrap_err();
            assert!(wrong.contains(said), "{wrong}");
        }
    }
}
