"""Programs compiled once for all lives of one job."""

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Lives of one job compile the same programs: the first of them writes these down for the others, processes too."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as environ:
        for name, value in settings.items():
            jax.config.update(name, value)
            environ.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)
