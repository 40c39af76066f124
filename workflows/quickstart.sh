#!/usr/bin/env bash
# The main job, end to end: two teachers run once, their targets merged, two students trained.
# Usage: bash workflows/quickstart.sh [FOLDER]     (default: runs/quickstart)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=workflows/environment.sh
source "$root/workflows/environment.sh" runtime
folder="${1:-$root/runs/quickstart}"
mkdir -p "$folder"
cache="$folder/quick.ckd"

# Everything below works offline, and shows it.
export HF_HUB_OFFLINE=1

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/4  Run each teacher once over the corpus, store the top-k, merge two targets"
ckd-cache build "$root/workflows/quickstart.yaml" --cache "$cache"

step "2/4  Look at the cache: ckd-cache inspect, ckd-cache show"
ckd-cache inspect "$cache"
ckd-cache show "$cache" --slots 3

step "3/4  Train a student on the cached target, and its twin on hard labels only"
train() {
  ckd-student train "$root/workflows/student.yaml" --cache "$cache" --target gold --output "$folder/$1" --resume "${@:2}"
}
train student
train hard-twin --set loss.distill=0 --set loss.hard=1

step "4/4  Held-out loss, same steps, same seed, same order"
ckd-student evaluate "$folder/student" --task mlm --cache "$cache" --target gold
ckd-student evaluate "$folder/hard-twin" --task mlm --cache "$cache" --target gold
cat <<TEXT

This shows the machinery, not evidence: the teacher \`tech\` has read this text in its training.

What to try next
  ckd-cache merge "$cache" --name sharp --weighting gold --tau 0.5     another target, no teacher needed
  ckd-cache show "$cache" --example 12                                 another example
  ckd-student train workflows/student.yaml --cache "$cache" --target uniform --output "$folder/uniform"
  your own text and teachers: copy workflows/quickstart.yaml and see docs/tutorial.md
TEXT
