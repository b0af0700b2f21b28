import json

import pytest

from service.launchers.base import Busy, PlanFailed, PlanRefused


def test_a_plan_is_the_trainers_answer(idle_plane):
    answer = idle_plane.client.post("/plans?slice=v5e:2x4", json={"training": {"batch_size": 4}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["fits"] is False
    config, on, teachers = idle_plane.launcher.planned[-1]
    assert (json.loads(config), on, teachers) == ({"training": {"batch_size": 4}}, "v5e:2x4", {})


def test_an_invalid_config_is_refused_before_anything_compiles(idle_plane):
    before = len(idle_plane.launcher.planned)
    answer = idle_plane.client.post("/plans", json={"training": {"batch_size": 0}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/training/batch_size"
    assert idle_plane.client.post("/plans", content=b"{").status_code == 422
    assert len(idle_plane.launcher.planned) == before


@pytest.mark.parametrize("slice", ["v5e", "v5e:", "v5e:2x4;rm", "--help:2"])
def test_a_slice_is_written_so(idle_plane, slice):
    answer = idle_plane.client.post("/plans", params={"slice": slice}, json={})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (PlanRefused("--slice v9:2x4: no such thing"), 422, "plan-refused"),
        (PlanFailed("the compiler crashed"), 500, "plan-failed"),
        (Busy("1 of at most 1 plans are under way"), 429, "busy"),
    ],
)
def test_what_goes_wrong_is_told(plane, fault, status, kind):
    plane.launcher.plan_fault = fault
    answer = plane.client.post("/plans", json={})
    assert answer.status_code == status
    assert answer.json()["type"] == f"/problems/{kind}"
    assert answer.json()["detail"] == str(fault)
