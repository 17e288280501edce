# Sourced by the installers beside this file: each installs one real server or client for the tests, in a folder of its own
# under the cache, once; a changed script, version or input installs again.

set -euo pipefail
peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WATCHBELL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watchbell}/peers

# peer NAME [INPUT ...]: sets `version` and `target` and enters `work`, an empty folder; ends the script where it is already installed.
peer() {
  name=$1
  shift
  version=$(awk -v name="$name" '$1 == name { print $2 }' "$peers/versions")
  target=$cache/$name-$version
  stamp=$(cat "$0" "$@" | sha256sum | cut -d' ' -f1)
  mkdir -p "$cache"
  exec 9>"$target.lock"
  flock 9
  if [ "$(cat "$target/installed" 2>/dev/null)" = "$stamp" ]; then
    exit 0
  fi
  echo "installing $name $version into $target"
  rm -rf "$target"
  mkdir -p "$target/bin"
  export GOBIN=$target/bin
  work=$(mktemp -d)
  trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
  cd "$work"
}

# need COMMAND HOW: ends the script with a clear message where a toolchain is missing.
need() {
  command -v "$1" >/dev/null && return
  echo "$name needs \`$1\`, which is not on the PATH: $2" >&2
  exit 1
}

need_go() {
  need go "install Go 1.26 or later from https://go.dev/dl/"
}

need_python() {
  need python3 "apt-get install python3 python3-venv"
}

# go_module MODULE@VERSION: prints the folder of the downloaded module.
go_module() {
  go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# venv PACKAGE ...: a Python environment in `target`.
venv() {
  python3 -m venv "$target/venv"
  "$target/venv/bin/pip" install --quiet --disable-pip-version-check "$@"
}

installed() {
  echo "$stamp" >"$target/installed"
}
