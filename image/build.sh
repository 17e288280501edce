#!/bin/sh
# Lays out an image that holds nothing but the collector as a static binary, the authorities' certificates and the time zones.
# usage: image/build.sh FOLDER [ARGUMENT of cargo build ...]      default: --release
#
# For musl, not for glibc with crt-static: glibc resolves host names by libraries that it loads at run time, which a static binary in an
# empty image has not. Its slow allocator does not matter: the collector brings its own.
set -eu
folder=$1
shift
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
[ $# -gt 0 ] || set -- --release
rm -rf "$folder"
mkdir -p "$folder/etc/ssl/certs" "$folder/etc/watchbell/rules" "$folder/usr/share" "$folder/var/lib/watchbell" "$folder/tmp"
built=$(cargo build --locked --package watchbell-collector --bin watchbell --target "$target" \
  --message-format=json-render-diagnostics "$@")
binary=$(printf '%s\n' "$built" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
cp "$binary" "$folder/watchbell"
cp image/config.yaml "$folder/etc/watchbell/"
cp -L /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
cp -RL /usr/share/zoneinfo "$folder/usr/share/"
