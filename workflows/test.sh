#!/usr/bin/env bash
# Runs the tests:
#
#     bash workflows/test.sh                     the default tier: offline, CPU, minutes
#     CKD_TESTS=full bash workflows/test.sh      everything
#     bash workflows/test.sh tests/unit -k topk  arguments go to pytest
#
# Without arguments the tests are spread over CKD_TEST_PROCESSES processes (default: one a core,
# at most 4; 0 runs them in this one).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

# Threads of numerical libraries beyond the processes' own only fight for cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"

if [ $# -eq 0 ]; then
  cores="$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
  set -- --numprocesses "${CKD_TEST_PROCESSES:-$((cores < 4 ? cores : 4))}" --dist loadfile
fi
cd "$CKD_ROOT"
exec python -m pytest "$@"
