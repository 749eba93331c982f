#!/usr/bin/env bash
# Runs the tests: bash tools/test.sh          the ones for every change
#                 bash tools/test.sh --slow   crashes, float16, plug-ins, the wheel, the README
# Further arguments go to pytest.
source "$(dirname "$0")/venv.sh" test
if [ "${1:-}" = --slow ]; then
  shift
  exec python -m pytest -q -m slow --durations=10 "$@"
fi
exec python -m pytest -q -n 2 --durations=10 "$@"
