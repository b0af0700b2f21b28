"""Importing the contract stays light: pydantic and the standard library, nothing heavier."""

import subprocess
import sys
from pathlib import Path

import vishwamai.contract

MODULES = sorted(
    "vishwamai.contract." + ".".join(path.relative_to(root).with_suffix("").parts)
    for root in [Path(vishwamai.contract.__file__).parent]
    for path in root.rglob("*.py")
    if path.name != "__init__.py"
)
HEAVY = {"jax", "jaxlib", "numpy", "flax", "optax", "orbax", "fastapi", "sqlalchemy", "uvicorn", "rich", "typer"}


def test_the_contract_imports_nothing_heavy():
    assert "vishwamai.contract.resolve" in MODULES
    program = (
        f"import sys\nfor name in {MODULES!r}: __import__(name)\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    # `-I` would hide the working copy; `-S` would hide pydantic.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded
    assert not loaded & HEAVY
