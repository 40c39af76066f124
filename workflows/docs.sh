#!/usr/bin/env bash
# Builds the documentation into docs/_build/html; a warning is an error. Arguments go to sphinx-build.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

cd "$CKD_ROOT"
exec python -m sphinx --builder html --fail-on-warning --keep-going --quiet "$@" docs docs/_build/html
