#!/usr/bin/env bash
# What a way of logging adds to a program: bytes of the stripped release build, crates, and processor seconds to compile them all.
# Each program logs one event inside a span; the versions are those of this workspace. Run: bash sdk/benches/footprint.sh [PART_OF_THE_NAME]
set -euo pipefail
only=${1:-}
workspace=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# program NAME DEPENDENCIES MAIN: builds it and prints its row.
program() {
  [[ $1 == *"$only"* ]] || return 0
  mkdir -p "$work/src"
  cp "$workspace/Cargo.lock" "$work/Cargo.lock"
  cat >"$work/Cargo.toml" <<TOML
[package]
name = "footprint"
edition = "2024"
[profile.release]
strip = true
[dependencies]
$2
TOML
  echo "$3" >"$work/src/main.rs"
  rm -rf "$work/target"
  (cd "$work" && cargo fetch --quiet)
  local seconds crates bytes
  seconds=$( (TIMEFORMAT='%U %S'; time (cd "$work" && cargo build --quiet --release >&2)) 2>&1 | awk 'END { printf "%.0f", $1 + $2 }')
  crates=$(cd "$work" && cargo tree --edges normal,build --prefix none --no-dedupe | awk '{ print $1, $2 }' | sort -u | wc -l)
  bytes=$(stat -c %s "$work/target/release/footprint")
  awk -v name="$1" -v bytes="$bytes" -v crates="$((crates - 1))" -v seconds="$seconds" \
    'BEGIN { printf "| %s | %.2f | %d | %d |\n", name, bytes / 1048576, crates, seconds }'
}

event='tracing::info_span!("checkout").in_scope(|| tracing::info!(order_id = 7, amount = 9.75, "order placed"));'
ours="fn main() { let _guard = watchbell::init().unwrap(); $event }"
tracing='tracing = "0.1"'

echo "| program | MiB | crates | CPU-s to compile |"
echo "|---|---|---|---|"
program "without logging" "" 'fn main() { println!("order placed"); }'
program "tracing-subscriber's JSON, non-blocking" "$tracing
tracing-appender = \"0.2\"
tracing-subscriber = { version = \"0.3\", features = [\"json\"] }" "fn main() {
    let (writer, _guard) = tracing_appender::non_blocking(std::io::stdout());
    tracing_subscriber::fmt().json().with_writer(writer).init();
    $event
}"
program "watchbell, no features: OTLP/HTTP alone" "$tracing
watchbell = { path = \"$workspace/sdk\", default-features = false }" "$ours"
program "watchbell, as it comes" "$tracing
watchbell = { path = \"$workspace/sdk\" }" "$ours"
program "stock OpenTelemetry, logs and spans over gRPC with TLS" "$tracing
tokio = { version = \"1\", features = [\"rt-multi-thread\", \"macros\"] }
opentelemetry = \"0.33.1\"
opentelemetry_sdk = \"0.33.1\"
opentelemetry-otlp = { version = \"0.33.1\", default-features = false, features = [\"grpc-tonic\", \"logs\", \"trace\", \"gzip-tonic\", \"tls-ring\", \"tls-roots\"] }
opentelemetry-appender-tracing = \"0.33.1\"
tracing-opentelemetry = \"0.34\"
tracing-subscriber = \"0.3\"" "use opentelemetry::trace::TracerProvider;
use tracing_subscriber::prelude::*;
#[tokio::main]
async fn main() {
    let exporter = opentelemetry_otlp::LogExporter::builder().with_tonic().build().unwrap();
    let logs = opentelemetry_sdk::logs::SdkLoggerProvider::builder().with_batch_exporter(exporter).build();
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build().unwrap();
    let spans = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer(\"footprint\"));
    let bridge = opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge::new(&logs);
    tracing_subscriber::registry().with(layer).with(bridge).init();
    $event
    logs.shutdown().unwrap();
    spans.shutdown().unwrap();
}"
program "emit over gRPC with TLS" 'emit = "2.23"
emit_otlp = "2.23"' 'fn main() {
    let logs = emit_otlp::logs_grpc_proto("http://localhost:4317");
    let resource = emit::props! { #[emit::key("service.name")] service_name: "footprint" };
    let started = emit::setup().emit_to(emit_otlp::new().resource(resource).logs(logs).spawn()).init();
    placed();
    started.blocking_flush(std::time::Duration::from_secs(1));
}
#[emit::span("checkout")]
fn placed() {
    emit::info!("order placed", order_id: 7, amount: 9.75);
}'
