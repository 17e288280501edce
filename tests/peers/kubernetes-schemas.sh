#!/usr/bin/env bash
# JSON schemas of Kubernetes 1.25 to 1.37, out of the Python package kubernetes-validate. The substitutions keep kubeconform from
# asking the network for what lies beside.
. "$(dirname "$0")/lib.sh"
peer kubernetes-schemas
need_python
python3 -m pip download --quiet --disable-pip-version-check --no-deps "kubernetes-validate==$version"
python3 -m zipfile -e ./*.whl wheel
mv wheel/kubernetes_validate/kubernetes-json-schema "$target/schemas"
find "$target/schemas" -name '*.json' -exec \
  sed -i 's#"/api/_definitions.json#"_definitions.json#; s#"\$id": "https://kubernetes.io#"x-id": "https://kubernetes.io#' {} +
installed
