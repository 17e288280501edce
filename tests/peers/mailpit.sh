#!/usr/bin/env bash
# Mailpit: an SMTP server whose mails are read back over HTTP.
. "$(dirname "$0")/lib.sh"
peer mailpit
need_go
go install -ldflags "-s -w" "github.com/axllent/mailpit@v$version"
installed
