#!/usr/bin/env bash
# Runs every check that needs no test: style, types, imports, banned calls, documentation.
# All of them run, also after one has failed; the last lines name those that did.
#
#     bash workflows/check.sh                    all of them
#     bash workflows/check.sh types imports      some of them
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev
cd "$CKD_ROOT"

check_style() { python -m ruff check --quiet .; }
check_format() { python -m ruff format --quiet --diff .; }
check_types() { python -m mypy pipeline/ckd_cache student/ckd_student tests docs/conf.py; }
check_imports() { lint-imports --no-logo; }
check_bans() { bash workflows/checks/bans.sh; }
check_lengths() { bash workflows/checks/lengths.sh; }
check_docs() { bash workflows/docs.sh; }

failed=()
for name in "${@:-}"; do
  if [ -n "$name" ] && ! declare -F "check_$name" >/dev/null; then
    ckd_say "check.sh: no check '$name'; there are: style format types imports bans lengths docs"
    exit 2
  fi
done
[ $# -gt 0 ] || set -- style format types imports bans lengths docs
for name in "$@"; do
  printf -- '--- %s\n' "$name"
  # In a subshell: one check cannot disturb the next.
  if ("check_$name"); then
    printf 'ok\n'
  else
    failed+=("$name")
    printf 'FAILED: %s\n' "$name"
  fi
done

if [ ${#failed[@]} -gt 0 ]; then
  printf '%d of %d checks failed: %s\n' "${#failed[@]}" "$#" "${failed[*]}"
  exit 1
fi
printf 'all %d checks passed\n' "$#"
