# shellcheck shell=bash
# Makes the Python environment of this checkout once, and activates it. To be sourced:
#
#     . workflows/environment.sh runtime    what the commands need
#     . workflows/environment.sh dev        and the tools of tests, checks and documentation
#
# The environment is .venv at the root of the checkout. PYTHON chooses the interpreter it is made
# with. Once made, nothing is installed and no network is used until pyproject.toml or
# constraints.txt change. Afterwards CKD_ROOT is the root, and its commands come first in PATH.

CKD_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
export CKD_ROOT

# Models come from folders; a name that is no folder is an error at once, not a long wait.
# HF_HUB_OFFLINE=0 allows downloads.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"

ckd_say() { printf '%s\n' "$*" >&2; }

# Succeeds if the interpreter $1 runs, is new enough and can make environments.
ckd_usable_python() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the interpreter to use, or explains what is missing.
ckd_find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if ckd_usable_python "$candidate"; then
      printf '%s\n' "$candidate"
      return 0
    fi
    if [ "$candidate" = "${PYTHON:-}" ]; then
      ckd_say "PYTHON=$PYTHON does not run, is older than 3.11, or lacks the modules venv and ensurepip."
      return 1
    fi
  done
  ckd_say "No Python 3.11 or later with the modules venv and ensurepip was found in PATH."
  ckd_say "Install one (Debian, Ubuntu: apt install python3-venv), or name it: PYTHON=/path/to/python3 bash …"
  return 1
}

# What decides whether the environment is up to date: its place and all that was asked for.
ckd_wanted_stamp() {
  printf '%s\n' "$CKD_ROOT"
  cat "$CKD_ROOT/pyproject.toml" "$CKD_ROOT/constraints.txt"
}

# Succeeds if the environment has everything of level $1 (dev includes runtime).
ckd_is_ready() {
  local stamp
  for stamp in "$CKD_ROOT/.venv/ckd-stamp-$1" "$CKD_ROOT/.venv/ckd-stamp-dev"; do
    [ -f "$stamp" ] && ckd_wanted_stamp | cmp -s - "$stamp" && return 0
  done
  return 1
}

# Succeeds if .venv is a working environment of this very place.
ckd_venv_works() {
  local python="$CKD_ROOT/.venv/bin/python"
  [ -x "$python" ] && ckd_usable_python "$python" \
    && "$python" -m pip --version >/dev/null 2>&1 \
    && grep -qF "$CKD_ROOT/.venv" "$CKD_ROOT/.venv/bin/activate"
}

ckd_make_venv() {
  ckd_venv_works && return 0
  local python
  python="$(ckd_find_python)" || return 1
  ckd_say "making .venv with $("$python" --version) …"
  "$python" -m venv --clear "$CKD_ROOT/.venv"
}

ckd_pip() { "$CKD_ROOT/.venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check "$@"; }

# Installs what level $1 needs; the stamp is written last, so that half an installation never counts.
ckd_install() {
  local constraints="$CKD_ROOT/constraints.txt" groups=()
  [ "$1" = dev ] && groups=(--group "$CKD_ROOT/pyproject.toml:dev")
  rm -f "$CKD_ROOT"/.venv/ckd-stamp-*
  ckd_make_venv || return 1
  ckd_pip install --upgrade --constraint "$constraints" pip || return 1
  ckd_say "installing ckd-cache and what it needs into .venv (once, a few minutes) …"
  ckd_pip install --constraint "$constraints" --build-constraint "$constraints" \
    --editable "$CKD_ROOT" ${groups[@]+"${groups[@]}"} || return 1
  ckd_wanted_stamp >"$CKD_ROOT/.venv/ckd-stamp.new" || return 1
  mv -f "$CKD_ROOT/.venv/ckd-stamp.new" "$CKD_ROOT/.venv/ckd-stamp-$1"
}

ckd_environment() {
  case "$1" in
    runtime | dev) ;;
    *) ckd_say "environment.sh: unknown level '$1'; use runtime or dev" && return 2 ;;
  esac
  if ! ckd_is_ready "$1" && ! ckd_install "$1"; then
    ckd_say "The environment could not be made; what failed is said above. Run the same command again"
    ckd_say "once it is solved; if .venv itself is at fault, remove the folder first."
    return 1
  fi
  PATH="$CKD_ROOT/.venv/bin:$PATH"
  export PATH
}

# A script that sources this with `set -e` ends here on failure; an interactive shell stays open.
ckd_environment "${1:-runtime}" || return 1
