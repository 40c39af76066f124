#!/usr/bin/env bash
# Reads the golden caches (tests/golden) with Python 3.13 and the newest NumPy, Zarr and pyarrow,
# without torch and without this package's other dependencies:
#
#     bash workflows/golden.sh                   arguments go to pytest
#
# The environment is .venv-golden at the root of the checkout, made once; remove the folder to take
# newer releases. Where there is no Python 3.13 this says so and ends well.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv-golden"

# What reading takes, then what testing takes. Nothing is pinned: this is where news shows first.
packages=(google-crc32c numcodecs numpy pyarrow pydantic zarr hypothesis pytest pytest-timeout)

say() { printf '%s\n' "$*" >&2; }

# Prints an interpreter of Python 3.13; a command of pyenv may stand for one that is not selected.
find_python() {
  local candidate
  for candidate in python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' \
      >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

wanted_stamp() { printf '%s\n' "$venv" "${packages[@]}"; }

if ! { [ -f "$venv/ckd-stamp" ] && wanted_stamp | cmp -s - "$venv/ckd-stamp"; }; then
  if ! python="$(find_python)"; then
    say "golden.sh: skipped, no Python 3.13 with the modules venv and ensurepip was found."
    exit 0
  fi
  say "making .venv-golden with $("$python" --version) (once, about a minute) …"
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check install "${packages[@]}"
  # Last, so that half an installation never counts.
  wanted_stamp >"$venv/ckd-stamp"
fi

cd "$root"
"$venv/bin/python" -c '
import platform, numcodecs, numpy, pyarrow, zarr
versions = (f"{m.__name__} {m.__version__}" for m in (zarr, numpy, pyarrow, numcodecs))
print(f"python {platform.python_version()},", ", ".join(versions))'

# What a newer release deprecates is shown, and is no failure yet.
exec "$venv/bin/python" -m pytest --quiet -W default "$@" tests/golden/test_golden.py
