#!/usr/bin/env bash
# Alertmanager and amtool. The published module lacks the built UI that it embeds: a copy of it is built with an empty one.
. "$(dirname "$0")/lib.sh"
peer alertmanager
need_go
cp -r "$(go_module "github.com/prometheus/alertmanager@v$version")" source
chmod -R u+w source
mkdir -p source/ui/app/dist
echo '<html></html>' >source/ui/app/dist/index.html
cd source
go build -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" -o "$target/bin/" ./cmd/alertmanager ./cmd/amtool
installed
