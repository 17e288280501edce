#!/usr/bin/env bash
# OpenTelemetry's Python SDK with the OTLP/JSON exporter, which wants packages other than python-client's.
. "$(dirname "$0")/lib.sh"
peer python-json-client
need_python
venv opentelemetry-exporter-otlp-json-http=="$version" opentelemetry-instrumentation-logging==0.66b2
installed
