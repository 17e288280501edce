//! Collectors under test: where their programs are, and the configs they run by.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process::Process;

/// A collector that runs, and where it listens.
pub(crate) struct Collector {
    pub(crate) process: Process,
    pub(crate) grpc: String,
    pub(crate) http: String,
    /// The folder with its config and data; gone with it.
    pub(crate) dir: tempfile::TempDir,
}

/// What our collector is to do beside taking records in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// Text of a rule file.
    pub(crate) rules: String,
    /// `exporters:` and everything else, as YAML.
    pub(crate) config: String,
}

/// Starts `watchbell run` from the release build, pinned to the first core; the load has the others.
pub(crate) fn watchbell(job: &Job) -> Result<Collector> {
    let dir = tempfile::Builder::new().prefix("watchbell-bench-").tempdir_in(target_dir())?;
    let [grpc, http, api] = free_addresses()?;
    fs::write(dir.path().join("rules.yaml"), &job.rules)?;
    fs::write(
        dir.path().join("config.yaml"),
        format!(
            "data_dir: {dir}/data\nrule_files: ['{dir}/rules.yaml']\napi: {{endpoint: '{api}'}}\n\
             receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}'}}, http: {{endpoint: '{http}'}}}}}}}}\n{config}\n",
            dir = dir.path().display(),
            config = job.config,
        ),
    )?;
    let program = target_dir().join("release/watchbell");
    let mut command = on_first_core(&program);
    command.arg("run").arg("--config").arg(dir.path().join("config.yaml"));
    let process = Process::start(command, &dir.path().join("log"), &grpc)?;
    Ok(Collector { process, grpc, http, dir })
}

/// Starts the OpenTelemetry Collector of the tests, memory only, one OTLP/gRPC exporter to `sink`, on the first core.
pub(crate) fn otelcol(sink: &str) -> Result<Option<Collector>> {
    let Some(program) = peer("otelcol") else { return Ok(None) };
    let dir = tempfile::tempdir_in(target_dir())?;
    let [grpc, http] = free_addresses()?;
    fs::write(
        dir.path().join("config.yaml"),
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}', max_recv_msg_size_mib: 64}}, http: {{endpoint: '{http}'}}}}}}}}\n\
             exporters: {{otlp: {{endpoint: '{sink}', compression: none, tls: {{insecure: true}}, sending_queue: {{enabled: true, queue_size: 1000}}}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}\n  \
             pipelines: {{logs: {{receivers: [otlp], exporters: [otlp]}}}}\n"
        ),
    )?;
    let mut command = on_first_core(&program);
    command.env("GOMAXPROCS", "1").arg("--config").arg(dir.path().join("config.yaml"));
    let process = Process::start(command, &dir.path().join("log"), &grpc)?;
    Ok(Some(Collector { process, grpc, http, dir }))
}

/// Starts Rotel, memory only, one OTLP/gRPC exporter to `sink`, on the first core.
pub(crate) fn rotel(sink: &str) -> Result<Option<Collector>> {
    let Some(program) = peer("rotel") else { return Ok(None) };
    let dir = tempfile::tempdir_in(target_dir())?;
    let [grpc, http] = free_addresses()?;
    let mut command = on_first_core(&program);
    command.args(["start", "--exporter", "otlp", "--otlp-exporter-compression", "none"]);
    command.args(["--otlp-exporter-endpoint", &format!("http://{sink}")]);
    command.args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
    command.args(["--otlp-grpc-max-recv-msg-size-mib", "64"]);
    let process = Process::start(command, &dir.path().join("log"), &grpc)?;
    Ok(Some(Collector { process, grpc, http, dir }))
}

/// Where `make peers` has put a program.
fn peer(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("WATCHBELL_CACHE").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        Some(cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?.join("watchbell"))
    })?;
    let mut found: Vec<PathBuf> = glob::glob(&format!("{}/peers/{name}-*/**/{name}", cache.display()))
        .ok()?
        .filter_map(std::result::Result::ok)
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop()
}

/// Keeps the load and the far end off the core of the collector; threads that are made from here on inherit it.
pub(crate) fn leave_first_core() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores > 1 {
        let pid = std::process::id().to_string();
        let status = Command::new("taskset").args(["-c", "-p", &format!("1-{}", cores - 1), &pid]).output()?.status;
        assert!(status.success(), "taskset ended with {status}");
    }
    Ok(())
}

fn on_first_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// The workspace's `target` folder: on the disk that the project is on, not in memory.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("target"))
}

/// Addresses that nothing listens on.
pub(crate) fn free_addresses<const N: usize>() -> Result<[String; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let addresses: Vec<String> =
        listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect::<std::io::Result<_>>()?;
    addresses.try_into().map_err(|_| "no free addresses".into())
}

/// The listed set of a hundred rules, ten of which match every record.
pub(crate) const HUNDRED_RULES: &str = include_str!("rules-100.yaml");
