#!/usr/bin/env bash
# Looks for what must not stand in the files of the repository; prints each place with its reason.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

found=0

# ban REASON PATTERN FILE-GLOB FOLDER…   (an extended regular expression; missing folders are skipped)
ban() {
  local reason="$1" pattern="$2" glob="$3" folder folders=()
  shift 3
  for folder in "$@"; do
    [ -e "$folder" ] && folders+=("$folder")
  done
  if grep -rnE --include="$glob" --exclude-dir=_build --exclude-dir=__pycache__ \
    --exclude=bans.sh -- "$pattern" "${folders[@]}"; then
    printf '  ^ %s\n' "$reason"
    found=1
  fi
}

code=(pipeline student)
everything=(pipeline student tests workflows docs .ci .github pyproject.toml
  README.md CONTRIBUTING.md CHANGELOG.md)

ban 'pickles can run code' '^[[:space:]]*(import|from)[[:space:]]+(pickle|cPickle|dill|cloudpickle|joblib)' '*.py' "${code[@]}"
ban 'torch.load reads pickles; use safetensors' '\btorch\.load\(' '*.py' "${code[@]}"
ban 'allow_pickle reads pickles' 'allow_pickle[[:space:]]*=[[:space:]]*True' '*.py' "${code[@]}" tests
ban 'shells are not for libraries' '\bos\.(system|popen)\(|shell[[:space:]]*=[[:space:]]*True' '*.py' "${code[@]}"
ban 'text is data, not code' '(^|[^.[:alnum:]_])(eval|exec)\(' '*.py' "${code[@]}"
ban 'output goes through rich in cli/' '(^|[^.[:alnum:]_])print\(' '*.py' "${code[@]}"
ban 'int16 wraps token ids above 32767' '\.to\(torch\.int16\)' '*.py' "${code[@]}"
ban 'a path of one machine' '(^|[^[:alnum:]_.~>/-])/(work|root|home|Users|mnt|scratch)/[[:alnum:]]' '*' "${everything[@]}"
ban 'a path outside of the checkout' '\.\./shared' '*' "${everything[@]}"

exit "$found"
