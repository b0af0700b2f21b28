#!/bin/sh
# Bring .venv up to date. The environment's own Python answers fastest whether there is anything to do;
# only when there is does the search for a Python begin.
cd "$(dirname "$0")/.." || exit 1
.venv/bin/python scripts/setup_environment.py --current 2>/dev/null && exit 0
python=$(scripts/find_python.sh) || exit 1
exec "$python" scripts/setup_environment.py
