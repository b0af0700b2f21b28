"""Reading locations, and being refused."""

from pathlib import Path

import pytest

from trainer.data.sources import expand, read
from trainer.errors import UserError
from vishwamai.contract.config import DataSection


def documents(*locations: Path | str, **settings) -> list[str]:
    files = expand([str(location) for location in locations], "data.train")
    return list(read(files, DataSection(**settings), "data.train"))


def refused(*locations: Path | str, kind: type[Exception] = UserError, **settings) -> str:
    """The message with which these locations are refused."""
    with pytest.raises(kind) as caught:
        documents(*locations, **settings)
    assert str(caught.value).startswith("data.train: ")
    return str(caught.value)
