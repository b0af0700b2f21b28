"""The step beside a teacher: against its definition in numpy, on meshes, and what it leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.trainer.batches import random_batch
from tests.trainer.distill.teachers import student_of
from tests.trainer.jobs import tiny_job
from trainer.distill.hidden import HiddenLoss, hidden_distance
from trainer.distill.lesson import teacher_job, temperature_at
from trainer.distill.load import fingerprint, load_teacher
from trainer.forward import make_hidden_states
from trainer.mesh import make_mesh
from trainer.step import init_state, make_train_step, put_batch, state_shardings
from trainer.trained import of_model
from vishwamai.contract.config import DistillationSection

STUDENT = {"hidden_dim": 16, "num_layers": 2, "num_heads": 4, "head_dim": 8, "mlp_dim": 32, "num_kv_heads": 2}
TRAINING = {"batch_size": 4, "grad_accum_steps": 2}


@functools.cache
def job_on(teacher, mesh=(), execution=(), **section):
    return student_of(
        teacher,
        section=section,
        model=STUDENT,
        training=TRAINING,
        mesh=dict(mesh),
        micro_batch=8,
        execution={key: list(value) if isinstance(value, tuple) else value for key, value in execution},
    )


@functools.cache
def first_state(teacher):
    job = job_on(teacher)
    return jax.device_get(init_state(job, make_mesh(job)))


@functools.cache
def alone():
    """The student's job without a teacher, and its first state."""
    job = tiny_job(model=STUDENT, training=TRAINING, micro_batch=8)
    return job, jax.device_get(init_state(job, make_mesh(job)))


def train(job, first, steps):
    mesh = make_mesh(job)
    state = jax.tree.map(jax.device_put, first, state_shardings(job, mesh))
    teacher, step = load_teacher(job, mesh), make_train_step(job, mesh)
    before = fingerprint(teacher)
    history = []
    for i in range(steps):
        state, metrics = step(state, put_batch(random_batch(job, i), mesh), teacher)
        history.append(jax.device_get(metrics))
    assert fingerprint(teacher) == before
    return jax.device_get(state), history


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_the_loss_is_what_the_definition_says(teacher):
    job = job_on(teacher, alpha=0.3, hidden_loss="mse", hidden_weight=0.7, temperature=3.0)
    first = first_state(teacher)
    _, (metrics,) = train(job, first, 1)
    batch, mesh = random_batch(job, 0), make_mesh(job)
    targets = np.asarray(batch.targets)[..., None]
    student = make_hidden_states(job, mesh)(jax.device_put(first.params), batch.inputs, batch.segments)
    taught = make_hidden_states(teacher_job(job), mesh)(load_teacher(job, mesh), batch.inputs, batch.segments)
    logits, their_logits = (np.asarray(logits, np.float64) for _, logits in (student, taught))
    share = batch.weights / batch.weights.sum()
    p, q, own = log_softmax(their_logits / 3), log_softmax(logits / 3), log_softmax(logits)
    ce = -np.sum(share * np.take_along_axis(own, targets, -1)[..., 0])
    kl = 9 * np.sum(share * (np.exp(p) * (p - q)).sum(-1))
    # float32 sums over 32 positions and 258 words.
    np.testing.assert_allclose(metrics.parts["ce"], ce, rtol=1e-5)
    np.testing.assert_allclose(metrics.parts["kl"], kl, rtol=1e-4)
    agreement = np.sum(share * (logits.argmax(-1) == their_logits.argmax(-1)))
    np.testing.assert_allclose(metrics.parts["agreement"], agreement, atol=1e-6)
    theirs = -np.sum(share * np.take_along_axis(log_softmax(their_logits), targets, -1)[..., 0])
    np.testing.assert_allclose(metrics.parts["teacher_loss"], theirs, rtol=1e-5)
    # Its last pair is of states that no one sees from outside, before the norm; the distance has a test of its own.
    assert 0 < metrics.parts["hidden"] < 10
    total = 0.3 * metrics.parts["kl"] + 0.7 * metrics.parts["ce"] + 0.7 * metrics.parts["hidden"]
    np.testing.assert_allclose(metrics.loss, total, rtol=1e-6)


def test_distances_of_hidden_states():
    random = np.random.default_rng(0)
    student, teacher = random.standard_normal((2, 3, 4, 6)), random.standard_normal((2, 3, 4, 9))
    projection, weights = random.standard_normal((2, 6, 9)), random.random((3, 4))
    s, t, p, w = (jnp.asarray(x, jnp.float32) for x in (student, teacher, projection, weights))
    followed = np.einsum("pbth,phg->pbtg", student, projection)
    square = ((followed - teacher) ** 2).sum(-1) / (teacher**2).sum(-1)
    cosine = 1 - (followed * teacher).sum(-1) / np.linalg.norm(followed, axis=-1) / np.linalg.norm(teacher, axis=-1)
    kinds: dict[HiddenLoss, np.ndarray] = {"mse": square, "cosine": cosine}
    for kind, expected in kinds.items():
        found = hidden_distance(s, t, p, w, kind)
        np.testing.assert_allclose(found, np.sum(weights * expected.mean(0)), rtol=1e-5)  # float32
        same = hidden_distance(t, t, None, w, kind)
        np.testing.assert_allclose(same, 0.0, atol=1e-5)
        assert np.isfinite(jax.grad(hidden_distance)(jnp.zeros_like(s), t, p, w, kind)).all()


def test_a_teacher_of_no_weight_changes_no_step(teacher):
    plain, first = alone()
    mesh, step = make_mesh(plain), make_train_step(plain, make_mesh(plain))
    state = jax.tree.map(jax.device_put, first, state_shardings(plain, mesh))
    for i in range(3):
        state, metrics = step(state, put_batch(random_batch(plain, i), mesh))
    _, history = train(job_on(teacher, alpha=0.0, use_intermediate_distillation=False), first, 3)
    np.testing.assert_allclose(history[-1].loss, metrics.loss, rtol=1e-5)  # the same sums, fused otherwise


def test_the_projection_is_trained_and_no_part_of_the_model(teacher):
    first, (last, _) = first_state(teacher), one_device(teacher)
    assert first.params["projection"].shape == (2, 16, 32)
    assert np.abs(last.params["projection"] - first.params["projection"]).max() > 1e-4
    jax.tree.map(np.testing.assert_array_equal, of_model(first.params), alone()[1].params)


def test_trains_as_on_one_device_where_everything_is_split(teacher):
    _, expected = one_device(teacher)
    mesh = (("fsdp", 2), ("sequence", 2), ("model", 2))
    job = job_on(teacher, mesh, (("weight_axes", ("fsdp",)), ("weight_gather", "layer"), ("remat", "full")))
    _, history = train(job, first_state(teacher), 3)
    for ours, theirs in zip(history, expected, strict=True):
        # The same float32 terms in another order.
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=5e-5)
        np.testing.assert_allclose(ours.grad_norm, theirs.grad_norm, rtol=5e-4)
        assert ours.parts.keys() == theirs.parts.keys() == {"ce", "kl", "hidden", "teacher_loss", "agreement"}
        for name in ours.parts:
            np.testing.assert_allclose(ours.parts[name], theirs.parts[name], rtol=1e-4, atol=1e-6)


@functools.cache
def one_device(teacher):
    return train(job_on(teacher), first_state(teacher), 3)


def test_temperature_goes_to_its_end_in_a_line():
    section = DistillationSection(temperature=4.0, final_temperature=1.0)
    found = [float(temperature_at(section, jnp.int32(step), 7)) for step in range(9)]
    np.testing.assert_allclose(found, [4, 3.5, 3, 2.5, 2, 1.5, 1, 1, 1])
    constant = DistillationSection(temperature=4.0)
    assert {float(temperature_at(constant, jnp.int32(step), 7)) for step in range(7)} == {4.0}


def test_a_fingerprint_sees_one_bit_and_no_mesh():
    random = np.random.default_rng(0)
    params = {"a": jnp.asarray(random.standard_normal((6, 8)), jnp.bfloat16), "b": jnp.ones(5)}
    expected = fingerprint(params)
    assert fingerprint({"a": params["a"].at[3, 4].multiply(1.01), "b": params["b"]}) != expected
    swapped = params["a"].at[0].set(params["a"][1]).at[1].set(params["a"][0])
    assert fingerprint({"a": swapped, "b": params["b"]}) != expected
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2], axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    assert fingerprint({"a": jax.device_put(params["a"], place), "b": params["b"]}) == expected
