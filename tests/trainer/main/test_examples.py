import math
from pathlib import Path

import pytest

from vishwamai.contract.load import check_config, parse_json
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import SiteDefaults

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_every_example_can_be_launched_and_is_watched(path, platform):
    job = resolve(check_config(parse_json(path.read_bytes())), SiteDefaults(platform=platform))
    assert job.blockers == []
    logging = job.effective.logging
    assert math.ceil(job.effective.training.max_steps / logging.save_every) >= 3
    assert job.effective.training.max_steps / logging.eval_every >= 3


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"tiny", "guide-base"}
