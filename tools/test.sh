#!/usr/bin/env bash
# Runs the tests: bash tools/test.sh          the ones for every change
#                 bash tools/test.sh --slow   crashes, float16, plug-ins, the wheel, the README
# Further arguments go to pytest.
source "$(dirname "$0")/venv.sh" test
# What each worker of the fast tier may hold, in MB; 0 is no limit.
memory=${LINGVO_LITE_TEST_MEMORY_MB:-5000}
export MALLOC_ARENA_MAX=2
if [ "${1:-}" = --slow ]; then
  shift
  exec python -m pytest -q -m slow --durations=10 "$@"
fi
LINGVO_LITE_TEST_MEMORY_MB=$memory exec python -m pytest -q -n 2 --durations=10 "$@"
