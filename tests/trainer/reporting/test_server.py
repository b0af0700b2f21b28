import json
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.trainer.reporting.events import committed, eval_event, step_event
from trainer.reporting import now
from trainer.reporting.prometheus import PrometheusMetrics
from trainer.reporting.server import StatusServer
from trainer.reporting.status import Status
from vishwamai.contract.reports import PhaseEvent


@pytest.fixture
def sinks():
    return Status(job_id="j-1", attempt=2, max_steps=400), PrometheusMetrics(job_id="j-1", attempt=2, max_steps=400)


@pytest.fixture
def get(sinks):
    status, metrics = sinks
    server = StatusServer("127.0.0.1", 0, metrics.registry, status)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
            return answer.read().decode()

    yield get
    server.close()


def tell(sinks, *events):
    for event in events:
        for sink in sinks:
            sink.receive(event)


def test_status_tells_progress(sinks, get):
    tell(sinks, PhaseEvent(time=now(), phase="training", step=100))
    tell(sinks, step_event(120, loss=2.25), eval_event(120, loss=2.0), eval_event(120, 3.0, main=False), committed(100))
    status = json.loads(get("/status"))
    wanted = {
        "job_id": "j-1",
        "attempt": 2,
        "phase": "training",
        "step": 120,
        "max_steps": 400,
        "fraction": 0.3,
        "loss": 2.25,
        "eval_loss": 2.0,
        "tokens": 12_000,
        "tokens_per_second": 18_200.0,
        "eta_seconds": 70.0,
        "last_checkpoint": 100,
        "cause": None,
    }
    assert {name: status[name] for name in wanted} == wanted


def test_metrics_are_prometheus_text(sinks, get):
    tell(sinks, step_event(100), step_event(120, loss=2.25, parts={"ce": 2.5, "agreement": 0.5}))
    tell(sinks, eval_event(120, loss=2.0), eval_event(120, 3.0, name="wiki", main=False, bits_per_byte=0.75))
    tell(sinks, committed(100))
    tell(sinks, PhaseEvent(time=now(), phase="saving", step=120))
    samples: dict[tuple, float] = {}
    for family in text_string_to_metric_families(get("/metrics")):
        assert family.name.startswith("vishwamai_trainer_")
        assert family.documentation
        samples |= {(sample.name, tuple(sample.labels.values())): sample.value for sample in family.samples}
    prefix = "vishwamai_trainer_"
    assert samples[prefix + "step", ()] == 120
    assert samples[prefix + "max_steps", ()] == 400
    assert samples[prefix + "loss", ()] == 2.25
    assert (samples[prefix + "eval_loss", ("eval",)], samples[prefix + "eval_loss", ("wiki",)]) == (2.0, 3.0)
    assert samples[prefix + "eval_bits_per_byte", ("wiki",)] == 0.75
    assert (samples[prefix + "loss_part", ("ce",)], samples[prefix + "loss_part", ("agreement",)]) == (2.5, 0.5)
    assert samples[prefix + "last_checkpoint_step", ()] == 100
    assert samples[prefix + "tokens_total", ()] == 2000
    assert samples[prefix + "step_seconds_count", ()] == 20
    assert samples[prefix + "step_seconds_sum", ()] == pytest.approx(5.0)
    assert samples[prefix + "phase", ("saving",)] == 1
    assert samples[prefix + "attempt_info", ("2", "j-1")] == 1


def test_healthz_and_what_is_not_there(get):
    assert json.loads(get("/healthz")) == {"status": "ok"}
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get("/elsewhere")
    caught.value.close()


def test_a_taken_port_is_an_error(sinks, get):
    status, metrics = sinks
    first = StatusServer("127.0.0.1", 0, metrics.registry, status)
    with pytest.raises(OSError, match="in use"):
        StatusServer("127.0.0.1", first.port, metrics.registry, status)
    first.close()
