#!/usr/bin/env bash
# Runs an image's folder as a container would: that folder alone is the file system, and the user is nobody in particular.
# usage: image/check.sh FOLDER       needs root, for chroot
set -euo pipefail
folder=$1
port=${2:-19439}
if ldd "$folder/watchbell" 2>/dev/null | grep -q '=>'; then
  echo "the binary is not static" >&2
  exit 1
fi
cat >"$folder/config.yaml" <<YAML
receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:$((port + 1))'}, http: {endpoint: '127.0.0.1:$((port + 2))'}}}}
api: {endpoint: '127.0.0.1:$port'}
data_dir: /var/lib/watchbell
rule_files: []
exporters: {otlp_http: {endpoint: 'https://127.0.0.1:$((port + 3))'}}
YAML
chown -R 65532:65532 "$folder/var/lib/watchbell"
chroot --userspec=65532:65532 "$folder" /watchbell check --config /config.yaml
chroot --userspec=65532:65532 "$folder" /watchbell run --config /config.yaml &
trap 'kill $! 2>/dev/null; wait' EXIT
for _ in $(seq 100); do
  if curl --silent --fail "http://127.0.0.1:$port/-/ready" >/dev/null; then
    echo "it runs"
    exit 0
  fi
  sleep 0.1
done
echo "it is not ready" >&2
exit 1
