#!/bin/sh
# Print the path of a Python >= 3.12 that can make virtual environments, or say what to do.
# PYTHON=/path/to/python decides it; otherwise PATH, then pyenv's versions, then uv's.

usable() {
    # Run it: a pyenv shim exists on PATH even where its version is not selected, and Debian
    # splits venv's pip (ensurepip) into a package of its own.
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

take() {
    if usable "$1"; then
        "$1" -c 'import sys; print(sys.executable)'
        exit 0
    fi
}

if [ -n "${PYTHON:-}" ]; then
    take "$PYTHON"
    echo "PYTHON=$PYTHON is not a working Python 3.12 or newer with the venv and ensurepip modules." >&2
    exit 1
fi

for name in python3.14 python3.13 python3.12 python3 python; do
    command -v "$name" >/dev/null 2>&1 && take "$name"
done

# The oldest supported version first: it is the one this project is developed on.
for candidate in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[2-9].*/bin/python3; do
    take "$candidate"
done

if command -v uv >/dev/null 2>&1; then
    candidate=$(uv python find --no-python-downloads '>=3.12' 2>/dev/null) && take "$candidate"
fi

cat >&2 <<'MESSAGE'
VishwamAI needs Python 3.12 or newer, and none was found on PATH, in pyenv or through uv.

Install one, then run the same command again:
  Debian, Ubuntu    apt install python3.12 python3.12-venv
  pyenv             pyenv install 3.12
  uv                uv python install 3.12
or name one that is elsewhere:  make PYTHON=/path/to/python3.12
MESSAGE
exit 1
