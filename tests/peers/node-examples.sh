#!/usr/bin/env bash
# What the Node services under `examples` import.
. "$(dirname "$0")/lib.sh"
package=$peers/../../examples/node/package.json
peer node-examples "$package"
need node "install Node.js 20 or later from https://nodejs.org"
need npm "install Node.js 20 or later from https://nodejs.org"
cp "$package" "$target/"
npm install --silent --no-audit --no-fund --no-package-lock --prefix "$target"
installed
