#!/usr/bin/env bash
# A client of OpenTelemetry's Go SDK.
. "$(dirname "$0")/lib.sh"
peer go-client "$peers"/../foreign/go/*
need_go
cp "$peers"/../foreign/go/* .
go build -ldflags "-s -w" -o "$target/bin/send" .
installed
