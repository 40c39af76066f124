#!/usr/bin/env bash
# A module above 400 lines has more than one responsibility: split it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

find pipeline student tests docs workflows -name '*.py' -not -path '*/_build/*' -exec wc -l {} + \
  | awk '$2 != "total" && $1 > 400 { print $2 ": " $1 " lines, at most 400"; bad = 1 } END { exit bad }'
