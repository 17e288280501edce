#!/usr/bin/env bash
# kubeconform, which checks manifests against the schemas of kubernetes-schemas.sh.
. "$(dirname "$0")/lib.sh"
peer kubeconform
need_go
go install -ldflags "-s -w" "github.com/yannh/kubeconform/cmd/kubeconform@v$version"
installed
