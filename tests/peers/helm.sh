#!/usr/bin/env bash
# Helm.
. "$(dirname "$0")/lib.sh"
peer helm
need_go
go install -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@v$version"
installed
