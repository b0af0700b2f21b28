from itertools import pairwise

from service.storage.intake import REPORTS_BETWEEN_THINNING
from tests.service.plane import step
from tests.service.records import NOW, report, running


def test_of_very_many_steps_the_older_stand_wider_apart(store):
    running(store)
    for seq in range(1, 5 * REPORTS_BETWEEN_THINNING + 1):
        store.store_report("j1", report(step(seq), seq=seq), NOW)
    kept = [point.step for point in store.series("j1", ["loss"])["loss"]]
    assert len(kept) <= 30
    assert (kept[0], kept[-1]) == (1, 99)
    gaps = [after - before for before, after in pairwise(kept)]
    assert gaps == sorted(gaps, reverse=True)


def test_other_jobs_keep_theirs(store):
    for job_id in ("j1", "j2"):
        running(store, job_id)
    store.store_report("j2", report(*map(step, range(1, 31)), seq=1), NOW)
    store.store_report("j1", report(*map(step, range(1, 41)), seq=REPORTS_BETWEEN_THINNING), NOW)
    assert len(store.series("j1", ["loss"])["loss"]) == 20
    assert len(store.series("j2", ["loss"])["loss"]) == 30


def test_parts_of_a_loss_are_series_of_their_own(store):
    running(store)
    parts = [{"ce": 2.0, "kl": 0.5}, {"ce": 1.5, "kl": float("nan")}, None]
    steps = [step(number, parts=one) for number, one in enumerate(parts, 1)]
    store.store_report("j1", report(*steps, seq=1), NOW)
    found = store.series("j1")
    assert [(point.step, point.value) for point in found["ce"]] == [(1, 2.0), (2, 1.5)]
    assert [(point.step, point.value) for point in found["kl"]] == [(1, 0.5)]
    assert len(found["loss"]) == 3
    assert store.series("j1", ["kl"]).keys() == {"kl"}
