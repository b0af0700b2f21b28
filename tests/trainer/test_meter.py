"""What is told of steps that were skipped."""

import logging
import math

import jax.numpy as jnp
import pytest

from trainer.errors import NonFiniteError
from trainer.loss_scale import Health
from trainer.meter import Meter
from trainer.reporting import now
from trainer.reporting.lines import log_lines
from trainer.reporting.prometheus import PrometheusMetrics
from trainer.step import StepMetrics
from vishwamai.contract.reports import Report


def metrics(loss, grad_norm, *, bad):
    return StepMetrics(
        loss=jnp.float32(loss),
        grad_norm=jnp.float32(grad_norm),
        learning_rate=jnp.float32(1e-3),
        tokens=jnp.float32(64),
        finite=jnp.bool_(not bad),
        health=Health(jnp.float32(1), jnp.int32(0), jnp.int32(bad), jnp.int32(bad)),
        parts={"ce": jnp.float32(loss)},
    )


@pytest.mark.parametrize(("loss", "grad_norm"), [(math.nan, math.nan), (2.5, math.inf)])
def test_a_skipped_step_is_told_without_what_is_no_number(loss, grad_norm, caplog):
    meter = Meter(max_bad_steps=2)
    meter.add(1, metrics(loss, grad_norm, bad=1), 0.0)
    with caplog.at_level(logging.WARNING):
        event = meter.read(1)
    assert "the step is skipped" in caplog.text
    told = None if math.isnan(loss) else loss
    assert (event.loss, event.grad_norm, event.finite, event.tokens) == (told, None, False, 0)
    assert event.parts == (None if told is None else {"ce": loss})
    report = Report(attempt=1, seq=1, sent_at=now(), events=[event])
    assert Report.model_validate_json(report.model_dump_json()) == report
    (line,) = log_lines(event, 10)
    assert f"loss {'no number' if told is None else '2.5000'} (skipped)  lr" in line.message
    gauges = PrometheusMetrics(job_id=None, attempt=1, max_steps=10)
    gauges.receive(event)
    assert math.isnan(gauges.registry.get_sample_value("vishwamai_trainer_gradient_norm") or 0)


def test_too_many_of_them_end_the_run():
    meter = Meter(max_bad_steps=1)
    meter.add(1, metrics(math.nan, math.nan, bad=1), 0.0)
    with pytest.raises(NonFiniteError, match="Loss nan and gradient norm nan at step 1"):
        meter.read(1)
