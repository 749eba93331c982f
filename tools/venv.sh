# Sourced by the other scripts: makes .venv in the clone if need be, installs lingvo_lite into it
# with -e and the extras named in $1, and puts it in front of PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=${1:-}
if [ ! -x .venv/bin/python ]; then
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    for candidate in python3 python3.12 python3.11 python3.10 python3.9; do
      if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' \
          2> /dev/null; then
        python=$candidate
        break
      fi
    done
  fi
  if [ -z "$python" ]; then
    echo "Python 3.9 to 3.12 is needed and none was found on PATH. Name one: PYTHON=/path/python $0" >&2
    exit 2
  fi
  "$python" -m venv .venv
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH

# Install again only when what is to be installed has changed.
wanted="$extras $(cksum setup.cfg pyproject.toml | cksum)"
if [ "$(cat .venv/installed 2> /dev/null)" != "$wanted" ]; then
  echo "Installing lingvo_lite${extras:+[$extras]} into .venv ..."
  python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
  echo "$wanted" > .venv/installed
fi
