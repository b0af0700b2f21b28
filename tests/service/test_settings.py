from pathlib import Path

import pytest

from service.settings import Settings, SettingsError


def test_defaults_are_a_service_for_this_machine_alone():
    settings = Settings.read({})
    assert settings == Settings()
    assert (settings.data_dir, settings.base_url) == (Path("runs"), "http://127.0.0.1:8000")
    assert settings.database == f"sqlite:///{Path.cwd() / 'runs' / 'service.sqlite3'}"


def test_every_setting_can_be_given():
    given = {
        "VISHWAMAI_DATA_DIR": "/data",
        "VISHWAMAI_HOST": "::1",
        "VISHWAMAI_PORT": "0",
        "VISHWAMAI_TOKENS_FILE": "/secret/tokens.yaml",
        "VISHWAMAI_CLUSTER_FILE": "/etc/cluster.yaml",
        "VISHWAMAI_DATABASE_URL": "sqlite:////elsewhere.db",
        "VISHWAMAI_LAUNCHER": "local",
        "VISHWAMAI_MAX_RUNNING_JOBS": "3",
        "VISHWAMAI_TICK_SECONDS": "0.25",
        "VISHWAMAI_MAX_BODY_BYTES": "2048",
        "VISHWAMAI_MAX_REPORT_BYTES": "4096",
        "VISHWAMAI_LOG_BYTES_PER_JOB": "100",
        "VISHWAMAI_STEPS_PER_JOB": "200",
        "VISHWAMAI_MAX_GENERATIONS": "4",
        "VISHWAMAI_GENERATION_SECONDS": "600",
        "VISHWAMAI_PLAN_SECONDS": "700",
        "VISHWAMAI_EXPORT_SECONDS": "900",
    }
    assert Settings.read(given) == Settings(
        data_dir=Path("/data"),
        host="::1",
        port=0,
        tokens_file=Path("/secret/tokens.yaml"),
        cluster_file=Path("/etc/cluster.yaml"),
        database_url="sqlite:////elsewhere.db",
        launcher="local",
        max_running_jobs=3,
        tick_seconds=0.25,
        max_body_bytes=2048,
        max_report_bytes=4096,
        log_bytes_per_job=100,
        steps_per_job=200,
        max_generations=4,
        generation_seconds=600.0,
        plan_seconds=700.0,
        export_seconds=900.0,
    )
    assert Settings.read(given).with_port(7).base_url == "http://[::1]:7"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("VISHWAMAI_HOST", "0.0.0.0", "VISHWAMAI_TOKENS_FILE"),
        ("VISHWAMAI_HOST", "192.168.1.5", "VISHWAMAI_TOKENS_FILE"),
        ("VISHWAMAI_HOST", "example.org", "VISHWAMAI_TOKENS_FILE"),
        ("VISHWAMAI_PORT", "65536", "65535"),
        ("VISHWAMAI_PORT", "http", "whole number"),
        ("VISHWAMAI_LAUNCHER", "kubernetes", "local"),
        ("VISHWAMAI_TICK_SECONDS", "nan", "seconds"),
        ("VISHWAMAI_TICK_SECONDS", "61", "to 60"),
        ("VISHWAMAI_GENERATION_SECONDS", "0", "to 86400"),
        ("VISHWAMAI_MAX_BODY_BYTES", "-1", "whole number"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(name, value, words):
    with pytest.raises(SettingsError) as raised:
        Settings.read({name: value})
    assert all(part in str(raised.value) for part in (name, value, words))
