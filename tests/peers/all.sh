#!/usr/bin/env bash
# Installs all that the tests need and is not yet there. The first time takes about ten minutes on two cores.
set -euo pipefail
for installer in "$(dirname "$0")"/*.sh; do
  case $installer in
    */lib.sh | */all.sh | */cargo-fuzz.sh) ;; # what no test needs
    *) bash "$installer" ;;
  esac
done
