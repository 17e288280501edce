#!/usr/bin/env bash
# Runs an image's folder as a container would: that folder alone is the file system, and the user is nobody in particular. The ports are
# those of its config, as in a container.
# usage: image/check.sh FOLDER       needs root, for chroot
set -euo pipefail
folder=$1
if ldd "$folder/watchbell" 2>/dev/null | grep -q '=>'; then
  echo "the binary is not static" >&2
  exit 1
fi
if curl --silent --output /dev/null http://127.0.0.1:9430/; then
  echo "port 9430 is taken" >&2
  exit 1
fi
run() { chroot --userspec=65532:65532 "$folder" /watchbell "$@"; }

# The authorities' certificates: without them no exporter could speak TLS.
printf '%s\n' 'data_dir: /var/lib/watchbell' 'rule_files: []' "exporters: {otlp_http: {endpoint: 'https://collector.example.com'}}" >"$folder/tmp/tls.yaml"
chown -R 65532:65532 "$folder/var/lib/watchbell"
run check --config /tmp/tls.yaml
rm "$folder/tmp/tls.yaml"
[ -f "$folder/usr/share/zoneinfo/Europe/Berlin" ]

run run --config /etc/watchbell/config.yaml &
trap 'kill $! 2>/dev/null; wait; rm -rf "$folder"/var/lib/watchbell/*' EXIT
for _ in $(seq 100); do
  # From another address than loopback's usual one, as from outside a container.
  if curl --silent --fail http://127.0.0.2:9430/-/ready >/dev/null; then
    echo "it runs"
    exit 0
  fi
  sleep 0.1
done
echo "it is not ready" >&2
exit 1
