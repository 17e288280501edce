//! The examples run, and what a receiver gets of them is what they promise.

#[path = "../../../sdk/tests/sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;

mod checkout;
mod grpc;
mod migration;
mod programs;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use receiver::Receiver;

/// A program that sends to the receiver.
fn command(program: &str, receiver: &Receiver) -> Command {
    let mut command = Command::new(program);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol());
    command
}

/// A service that runs.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    /// Starts it, and waits until it tells its address.
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let told = lines.find_map(|line| Some(line.expect("text").split_once("address=")?.1.to_owned()));
        std::thread::spawn(move || lines.for_each(drop)); // so that the pipe never fills up
        Self { child, address: told.expect("an address") }
    }

    /// SIGTERM; what it logged has been sent then.
    fn terminate(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("the command kill");
        assert!(status.success() && self.child.wait().expect("the program's end").success());
    }
}

fn string(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}
