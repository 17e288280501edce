#!/usr/bin/env bash
# Prometheus and promtool. The module's v0.316 is release 3.16; service discovery is left out, the tests have static targets.
. "$(dirname "$0")/lib.sh"
peer prometheus
need_go
minor=${version#3.}
go install -tags remove_all_sd -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
  github.com/prometheus/prometheus/cmd/{prometheus,promtool}@"v0.3$minor"
installed
