import pytest

from tests.trainer.jobs import tiny_job
from trainer.devices import detect_platform, prepare_devices


def test_on_cpu_there_are_as_many_virtual_devices_as_the_job_has():
    environ = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "JAX_PLATFORMS": "cpu"}
    prepare_devices(tiny_job(mesh={"data": 4}), environ)
    assert environ["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count=4"


def test_what_the_environment_says_is_respected():
    environ = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    prepare_devices(tiny_job(mesh={"data": 4}), environ)
    assert environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=8"
    assert environ["JAX_PLATFORMS"] == "cpu"


@pytest.mark.parametrize(
    ("files", "environ", "platform"),
    [
        ([], {}, "cpu"),
        (["dev/accel0"], {}, "tpu"),
        (["dev/vfio/0"], {}, "tpu"),
        (["dev/vfio/vfio"], {}, "cpu"),
        (["dev/nvidia0"], {}, "gpu"),
        (["dev/accel0"], {"JAX_PLATFORMS": "cpu"}, "cpu"),
        ([], {"JAX_PLATFORMS": "tpu,cpu"}, "tpu"),
        ([], {"JAX_PLATFORMS": "cuda"}, "gpu"),
    ],
)
def test_the_platform_is_what_the_machine_has(tmp_path, files, environ, platform):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert detect_platform(environ, tmp_path) == platform
