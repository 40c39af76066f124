#!/usr/bin/env bash
# What experiments with prediction weights need: two small experts that go on from the quickstart's
# teacher of technical text, one with another tokenizer, the caches that mix them, and the tables.
# Usage: bash workflows/experiments/experts.sh [FOLDER]
#
# FOLDER holds the corpora (default: $CKD_CORPORA); corpora.py says which and how to get them.
# All goes to runs/experiments. About an hour; what is finished is not done again.
set -euo pipefail
# shellcheck source=workflows/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" dev
corpora="${1:-${CKD_CORPORA:-}}"
if [ -z "$corpora" ]; then
  ckd_say "Name the folder of the corpora: bash workflows/experiments/experts.sh FOLDER"
  exit 2
fi
corpora="$(cd "$corpora" && pwd)"
cd "$CKD_ROOT"
experts=runs/experiments/experts

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# An expert: a cache without teachers, and a model trained on its gold.
expert() {
  ckd-cache build "workflows/experiments/experts/$1.yaml" --cache "$experts/$1.ckd"
  ckd-student train workflows/experiments/expert.yaml --cache "$experts/$1.ckd" \
    --output "$experts/$1" --resume "${@:2}"
}

step "1/5  Text of four kinds"
python workflows/experiments/corpora.py --corpora "$corpora"

step "2/5  Experts"
expert reviews
# Less text: more steps would learn it by heart.
expert speeches --set training.max_steps=1200

step "3/5  Run the teachers over the four kinds"
ckd-cache build workflows/experiments/weights.yaml --cache runs/experiments/weights.ckd
ckd-cache build workflows/experiments/unseen.yaml --cache runs/experiments/unseen.ckd

step "4/5  Every rule, held out"
for cache in weights unseen; do
  python workflows/experiments/weights.py "runs/experiments/$cache.ckd" \
    --json "runs/experiments/$cache.json"
done

step "5/5  Two tokenizers in one cache"
text=runs/experiments/text/reviews.jsonl
[ -d runs/experiments/tokenizers/bpe ] \
  || python workflows/experiments/bpe.py "$text" runs/experiments/tokenizers/bpe
ckd-cache build workflows/experiments/experts/reviews-bpe.yaml --cache "$experts/reviews-bpe.ckd"
ckd-student train workflows/experiments/expert-bpe.yaml --cache "$experts/reviews-bpe.ckd" \
  --output "$experts/reviews-bpe" --resume
ckd-cache build workflows/experiments/tokenizers.yaml --cache runs/experiments/tokenizers.ckd
ckd-cache inspect runs/experiments/tokenizers.ckd
