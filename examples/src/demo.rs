//! `make demo`: the main job on live traffic, from an empty data folder to the resolved notice, with nothing else installed.
//!
//! Starts the collector and the checkout service beside it, lets the payment upstream fail, waits for the page, heals the upstream,
//! waits for the resolved notice, and stops everything. `KEEP=1` leaves all running until it is interrupted; an interrupted demo leaves
//! nothing behind.

#![allow(clippy::print_stdout, clippy::print_stderr)] // it is a show

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<()> {
    let stage = Stage::set()?;
    let start = Instant::now();
    let say = |line: &str| println!("\n\x1b[1m── {:>4.1} s  {line}\x1b[0m", start.elapsed().as_secs_f64());

    say(&format!("the collector starts with an empty data folder, OTLP on {} and {}", stage.grpc, stage.http));
    let (sender, events) = mpsc::channel();
    tell_interruption(sender.clone())?;
    let collector = stage.start_collector(sender)?;
    say(&format!("the checkout service starts, instrumented with the SDK, and takes {RATE} orders a second"));
    let checkout = stage.start_checkout()?;
    wait(&events, CALM)?;

    say("the payment upstream begins to fail; the rule: more than 5 errors of one upstream in ten seconds");
    post(stage.checkout, "/demo/fail")?;
    wait_for_line(&events, "FIRING", PAGE_WITHIN)?;
    wait(&events, CALM)?;

    say(
        "the payment upstream heals; the alert resolves once its condition has been false for the group's interval, 5 s",
    );
    post(stage.checkout, "/demo/heal")?;
    wait_for_line(&events, "RESOLVED", RESOLVED_WITHIN)?;

    if std::env::var("KEEP").is_ok_and(|keep| keep == "1") {
        say("still running (KEEP=1); Ctrl-C ends it. To try next:");
        stage.print_addresses();
        keep_showing(&events);
    }
    say("all is well again; stopping");
    checkout.stop()?;
    collector.stop()?;
    Ok(())
}

/// The addresses and the folder of one show.
struct Stage {
    dir: PathBuf,
    grpc: SocketAddr,
    http: SocketAddr,
    api: SocketAddr,
    checkout: SocketAddr,
}

impl Stage {
    fn set() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("watchbell-demo-{}", std::process::id()));
        fs::create_dir_all(dir.join("rules"))?;
        fs::write(dir.join("rules/checkout.yaml"), include_str!("../rules/checkout.yaml"))?;
        fs::write(dir.join("config.yaml"), include_str!("../config/demo.yaml"))?;
        let [grpc, http, api, checkout] = free_addresses()?;
        Ok(Self { dir, grpc, http, api, checkout })
    }

    fn start_collector(&self, events: Sender<Event>) -> Result<Running> {
        let mut command = Command::new(beside_us("watchbell")?);
        command
            .arg("run")
            .arg("--config")
            .arg(self.dir.join("config.yaml"))
            .env("DEMO_DIR", &self.dir)
            .env("DEMO_GRPC", self.grpc.to_string())
            .env("DEMO_HTTP", self.http.to_string())
            .env("DEMO_API", self.api.to_string())
            .stdout(Stdio::piped());
        let mut running = Running::start("watchbell", command, &self.dir)?;
        show_lines(running.child.stdout.take().ok_or("no stdout")?, events);
        running.wait_until_answers(self.api, "/-/ready")?;
        Ok(running)
    }

    fn start_checkout(&self) -> Result<Running> {
        let mut command = Command::new(beside_us("checkout")?);
        command
            .args(["--address", &self.checkout.to_string(), "--rate", &RATE.to_string()])
            .env("OTEL_SERVICE_NAME", "checkout")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.grpc))
            .stdout(Stdio::null());
        let mut running = Running::start("checkout", command, &self.dir)?;
        running.wait_until_answers(self.checkout, "/healthz")?;
        Ok(running)
    }

    fn print_addresses(&self) {
        println!("   curl -s http://{}/api/v1/alerts       the alerts, as Prometheus answers", self.api);
        println!("   curl -s http://{}/api/v1/rules        the rules and their state", self.api);
        println!("   curl -s http://{}/metrics             the collector itself", self.api);
        println!(
            "   curl -s -X POST http://{}/demo/fail   the payment upstream fails again (/demo/heal)",
            self.checkout
        );
        println!("   curl -s -X POST http://{}/checkout    one order by hand", self.checkout);
        println!("   edit {}/rules/checkout.yaml, then", self.dir.display());
        println!("   curl -s -X POST http://{}/-/reload    loads the rules again", self.api);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A program of the show; it ends with its `Running`.
struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(name: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .process_group(0) // Ctrl-C is for the show alone, which then stops them in order
            .stderr(fs::File::create(&log)?)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name, child, log })
    }

    fn wait_until_answers(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended ({status}):\n{}", self.name, self.last_log_lines()).into());
            }
            if request("GET", address, path).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{} does not answer on {address}{path}:\n{}", self.name, self.last_log_lines()).into())
    }

    fn last_log_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, and waits until it has.
    fn stop(mut self) -> Result<()> {
        terminate(&self.child)?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{} ended badly ({status}):\n{}", self.name, self.last_log_lines()).into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or("the child has no pid")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

/// What the show waits for.
enum Event {
    /// The collector has paged a line.
    Line(String),
    /// By Ctrl-C or SIGTERM.
    Interrupted,
}

fn tell_interruption(events: Sender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _entered = runtime.enter();
        signal(SignalKind::terminate())?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = events.send(Event::Interrupted);
    });
    Ok(())
}

/// Prints what the collector pages, line by line, and passes each line on.
fn show_lines(stdout: ChildStdout, events: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            println!("{line}");
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
}

fn wait_for_line(events: &Receiver<Event>, wanted: &str, within: Duration) -> Result<()> {
    match find_line(events, within, |line| line.contains(wanted))? {
        true => Ok(()),
        false => Err(format!("no {wanted} page within {within:?}").into()),
    }
}

fn wait(events: &Receiver<Event>, duration: Duration) -> Result<()> {
    find_line(events, duration, |_| false).map(|_| ())
}

/// Whether a line that is wanted came in time.
fn find_line(events: &Receiver<Event>, within: Duration, is_wanted: impl Fn(&str) -> bool) -> Result<bool> {
    let deadline = Instant::now() + within;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) if is_wanted(&line) => return Ok(true),
            Ok(Event::Line(_)) => {}
            Ok(Event::Interrupted) => return Err("interrupted".into()),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err("the collector ended".into()),
        }
    }
}

fn keep_showing(events: &Receiver<Event>) {
    while let Ok(Event::Line(_)) = events.recv() {}
}

fn post(address: SocketAddr, path: &str) -> Result<()> {
    request("POST", address, path)
}

/// One HTTP/1.1 request whose answer must be 2xx.
fn request(method: &str, address: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 2") {
        return Ok(());
    }
    Err(format!("{method} {path}: {}", answer.lines().next().unwrap_or("no answer")).into())
}

fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let addresses: Vec<SocketAddr> = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
    addresses.try_into().map_err(|_| "no free addresses".into())
}

/// The program of that name in the folder that ours is in.
fn beside_us(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is missing; `make demo` builds it", path.display()).into()) }
}

const RATE: u32 = 50;
const CALM: Duration = Duration::from_secs(6);
const START_WITHIN: Duration = Duration::from_secs(20);
const PAGE_WITHIN: Duration = Duration::from_secs(20);
const RESOLVED_WITHIN: Duration = Duration::from_secs(45);
