#!/usr/bin/env bash
# OpenTelemetry's Python SDK with the OTLP/gRPC and OTLP/HTTP protobuf exporters.
. "$(dirname "$0")/lib.sh"
peer python-client
need_python
venv opentelemetry-{sdk,exporter-otlp-proto-grpc,exporter-otlp-proto-http}=="$version" opentelemetry-instrumentation-logging==0.66b2
installed
