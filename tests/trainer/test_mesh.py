import jax
import pytest
from jax.sharding import NamedSharding

from tests.trainer.jobs import tiny_job
from trainer.errors import UserError
from trainer.mesh import Sharding, batch_sharding, check_platform, make_mesh
from vishwamai.contract.resolved import MESH_AXES


def sharding(mesh, weight_axes=()):
    job = tiny_job(mesh=mesh, execution={"weight_axes": list(weight_axes)})
    return Sharding.of(job, make_mesh(job))


def test_mesh_has_the_contracts_axes_and_each_device_once():
    mesh = make_mesh(tiny_job(mesh={"data": 2, "sequence": 2, "model": 2}))
    assert mesh.axis_names == MESH_AXES
    assert mesh.devices.shape == (2, 1, 2, 2)
    assert len(set(mesh.devices.flat)) == 8


def test_takes_the_first_devices_when_there_are_more():
    mesh = make_mesh(tiny_job(mesh={"data": 2}))
    assert set(mesh.devices.flat) == set(jax.devices()[:2])


def test_too_few_devices_is_the_users_error_and_names_both_numbers():
    with pytest.raises(UserError, match=r"data=16.*needs 16 devices.*has 8.*mesh_shape"):
        make_mesh(tiny_job(mesh={"data": 16}))
    with pytest.raises(UserError, match=r"needs 2 devices.*has 1"):
        make_mesh(tiny_job(mesh={"model": 2}), jax.devices()[:1])


def test_batches_split_over_data_fsdp_and_sequence():
    mesh = make_mesh(tiny_job(mesh={"data": 2, "fsdp": 2, "sequence": 2}))
    assert batch_sharding(mesh).shard_shape((8, 32)) == (2, 16)


@pytest.mark.parametrize(
    ("mesh", "weight_axes", "axes", "shape", "shard"),
    [
        ({"data": 8}, [], ("embed", "mlp"), (32, 64), (32, 64)),
        ({"data": 8}, ["data"], ("embed", "mlp"), (32, 64), (4, 64)),
        ({"data": 2, "fsdp": 2, "model": 2}, ["data", "fsdp"], ("embed", "mlp"), (32, 64), (8, 32)),
        ({"fsdp": 4, "model": 2}, ["fsdp", "model"], ("vocab", "embed"), (258, 32), (129, 8)),
        ({"model": 2}, [], ("layers", "embed", "kv_heads"), (3, 32, 8), (3, 32, 4)),
        ({"model": 2}, [], ("layers", "kv_heads_bias"), (3, 8), (3, 4)),
        ({"model": 2}, [], ("vocab", "embed"), (257, 32), (257, 32)),
        ({"data": 2, "fsdp": 4}, ["data", "fsdp"], ("embed",), (6,), (3,)),
    ],
    ids=[
        "whole",
        "split",
        "two ways",
        "model is for heads and vocab",
        "kv heads",
        "biases",
        "odd vocab",
        "as far as it goes",
    ],
)
def test_weights_split_as_the_table_says_and_stay_whole_where_that_does_not_divide(
    mesh, weight_axes, axes, shape, shard
):
    table = sharding(mesh, weight_axes)
    assert NamedSharding(table.mesh, table.spec(axes, shape)).shard_shape(shape) == shard


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_a_job_for_other_hardware_does_not_run_on_this_in_silence(platform):
    job = tiny_job()
    check_platform(job)
    elsewhere = job.model_copy(update={"hardware": job.hardware.model_copy(update={"platform": platform})})
    with pytest.raises(UserError, match=f"run on {platform.upper()}, and JAX found only CPU.*platform cpu"):
        check_platform(elsewhere)
