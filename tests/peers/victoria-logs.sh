#!/usr/bin/env bash
# VictoriaLogs: takes Loki's push API and OTLP. The release's tag is not a Go version, so its commit stands here; it is built with a
# later VictoriaMetrics than the commit names, which no module proxy serves.
. "$(dirname "$0")/lib.sh"
peer victoria-logs
need_go
go mod init peers/victoria-logs
go get -tool github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.51.1-0.20260624061259-dc94972a8708 \
  github.com/VictoriaMetrics/VictoriaMetrics@v1.151.0
go build -ldflags "-s -w" -o "$target/bin/victoria-logs" github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs
installed
