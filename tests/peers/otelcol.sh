#!/usr/bin/env bash
# An OpenTelemetry Collector of the components that the tests and benchmarks use.
. "$(dirname "$0")/lib.sh"
peer otelcol "$peers/otelcol/builder.yaml"
need_go
GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@v$version"
"$work/builder" --config "$peers/otelcol/builder.yaml"
mv "$work/otelcol/otelcol" "$target/bin/"
installed
