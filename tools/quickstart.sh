#!/usr/bin/env bash
# From a fresh clone to translations: makes .venv, installs, and trains, evaluates and decodes
# mt.NumbersEnDe (English number words to German ones). At most 5 minutes after installation.
#   bash tools/quickstart.sh [LOGDIR]
source "$(dirname "$0")/venv.sh" ""

run=${1:-$(mktemp -d -t numbers-XXXXXX)/run}
start=$SECONDS
trainer --model=mt.NumbersEnDe --logdir="$run"
evaler --model=mt.NumbersEnDe --logdir="$run" --dataset=Test --once
decoder --model=mt.NumbersEnDe --logdir="$run" --dataset=Test --once

echo
echo "The log directory is $run. The score on unseen numbers:"
tail -n 1 "$run/decode_test/metrics.jsonl"
echo
echo "Translations of one's own text:"
printf '%s\n' 'two hundred and five' 'one thousand and one plus seventy-three' |
  decoder --model=mt.NumbersEnDe --logdir="$run" --input=-
echo "Took $((SECONDS - start)) seconds after installation."
