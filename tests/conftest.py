"""Settings for the whole suite: devices, property tests, and what a skip means."""

import os

# Eight virtual CPU devices, so that every mesh is a real mesh; and programs that run once or twice are not worth
# optimizing, which halves the suite. Must be set before anything imports jax, and is inherited by the trainers that
# tests start.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run: a red build is red again when it is looked into.
settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# HYPOTHESIS_PROFILE=default searches at random instead.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

FAIL_ON_SKIP = os.environ.get("VISHWAMAI_FAIL_ON_SKIP") == "1" or os.environ.get("CI") == "true"


def refuse_skip[Report: (pytest.TestReport, pytest.CollectReport)](report: Report) -> Report:
    """Turn a skip into a failure where everything a test could need is meant to be there."""
    if FAIL_ON_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and here a skip is a failure. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return refuse_skip((yield))
