"""Loss and gradients of a step's tokens, device by device.

    loss = sum over the step's tokens of w (-log p(target)),    gradient = d loss / d weights

Every device computes with whole weights (its share of them along `model`) on its own tokens, micro-batch after
micro-batch, and adds its gradients up in float32. Only then do devices talk: one reduction a step, in which each keeps
the part of the gradient whose weights it owns. Weights that are split over data or fsdp are made whole once a step
(`weight_gather` "step") or, where memory is short, one layer at a time in each pass ("layer"), whose gradients then
are reduced as they arise, which is what the transpose of gathering does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Batch
from trainer.collectives import add_over, gather_weight, index_along, own, reduce_gradient
from trainer.linear import Multiplied
from trainer.losses import cross_entropy
from trainer.mesh import BATCH_AXES, TOKEN_AXES, Sharding, batch_spec
from trainer.model import Computation, Decoder, Description, Params
from trainer.precision.weights import eight_bit_specs, in_numbers, is_eight_bit
from trainer.trained import describe_trained, of_model
from vishwamai.contract.resolved import EightBit, LowPrecisionPart, ResolvedJob


class Sums(NamedTuple):
    """Of all tokens of a step, on all devices."""

    loss: jax.Array
    """Nats."""
    weight: jax.Array
    """Tokens that count."""


class StepSums(NamedTuple):
    """The same, of a step that may have a teacher."""

    loss: jax.Array
    weight: jax.Array
    parts: dict[str, jax.Array]
    """What the loss is made of, and what else is to be told, summed likewise; none without a teacher."""


Gradients = Callable[..., tuple[StepSums, Params]]
SummedLoss = Callable[[Params, Batch], Sums]


class TaughtLoss(Protocol):
    """Another loss than the job's own cross-entropy, which something beside the batch teaches."""

    specs: tuple[Any, ...]
    """How the mesh splits what it is taught by."""

    def prepare(self, *taught: Any) -> Any:
        """What is done with it once a step."""

    def loss(
        self, device: "OneDevice", weights: Params, batch: Batch, rows: jax.Array, key: jax.Array, taught: Any
    ) -> StepSums:
        """Sums over one device's tokens, given what `prepare` made."""


def make_gradients(job: ResolvedJob, mesh: Mesh, lesson: TaughtLoss | None = None) -> Gradients:
    """(params, batch, dropout key, scale, *taught) -> (sums, gradients of scale * sums.loss, placed as the params).

    Batch fields are [sequences_per_step, T]; the key is uint32 words that differ from step to step; `taught` is what
    the lesson, if there is one, has specs for.
    """
    device = OneDevice(job, mesh)

    def gradients(
        params: Params, batch: Batch, key: jax.Array, scale: jax.Array, *taught: Any
    ) -> tuple[StepSums, Params]:
        weights = device.whole(params)
        prepared = None if lesson is None else lesson.prepare(*taught)

        def scaled_loss(weights: Params, batch: Batch, rows: jax.Array) -> tuple[jax.Array, StepSums]:
            if lesson is None:
                sums = StepSums(*device.loss(weights, batch, rows, key), {})
            else:
                sums = lesson.loss(device, weights, batch, rows, key, prepared)
            return scale * sums.loss, sums

        def visit(batch: Batch, rows: jax.Array) -> tuple[StepSums, Params]:
            (_, sums), found = jax.value_and_grad(scaled_loss, has_aux=True)(weights, batch, rows)
            return sums, found

        sums, found = _accumulate(visit, batch, device.rows(batch), job.batch.accumulation)
        return _of_all(sums), device.reduce(found)

    taught_specs = () if lesson is None else lesson.specs
    in_specs = (device.specs, batch_spec(mesh), PartitionSpec(), PartitionSpec(), *taught_specs)
    return jax.shard_map(gradients, mesh=mesh, in_specs=in_specs, out_specs=(PartitionSpec(), device.specs))


def make_summed_loss(job: ResolvedJob, mesh: Mesh) -> SummedLoss:
    """(params, batch) -> sums, without dropout; batch fields are [sequences_per_micro_batch, T]."""
    device = OneDevice(job, mesh)

    def summed(params: Params, batch: Batch) -> Sums:
        sums = device.loss(device.whole(params), batch, device.rows(batch), None)
        return _of_all(sums)

    return jax.shard_map(summed, mesh=mesh, in_specs=(device.specs, batch_spec(mesh)), out_specs=PartitionSpec())


def _of_all[Tree](sums: Tree) -> Tree:
    """The sums over all devices."""
    return jax.tree.map(lambda x: add_over(x, *TOKEN_AXES), sums)


class OneDevice:
    """What one device of the mesh does with its part of weights and tokens."""

    def __init__(self, job: ResolvedJob, mesh: Mesh, kept: EightBit | None = None) -> None:
        """`kept`: the matrices of layers are in these eight bits, for a model that is only read."""
        self._job = job
        self._description: Description = describe_trained(job)
        self.specs: Params = kept_specs(self._description, Sharding.of(job, mesh), kept)
        """How the mesh splits each parameter."""
        self._by_layer = bool(job.execution.weight_axes) and job.execution.weight_gather == "layer"
        # Scales and biases stay float32: they are small, and are used in float32.
        compute = jnp.dtype(job.precision.compute)
        self._dtypes: Params = jax.tree.map(
            lambda matrix: compute if matrix else jnp.dtype(jnp.float32), self._description.matrices()
        )
        # Inside a layer the specs lack the axis of layers, which nothing splits.
        self._layer_specs = jax.tree.map(lambda spec: PartitionSpec(*spec[1:]), self.specs["blocks"], is_leaf=_is_spec)
        self.how = Computation(
            dtype=compute,
            attention=job.execution.attention,
            attention_block=job.execution.attention_block,
            remat=job.execution.remat,
            scan_layers=job.execution.scan_layers,
            transpose_gradients=job.hardware.platform == "cpu",
            attention_products=_multiplied(job, "attention"),
            mlp_products=_multiplied(job, "mlp"),
            prepare=self._prepare_layer,
        )

    def whole(self, params: Params) -> Params:
        """The weights that this device differentiates by: whole and cast, or its own parts of the layers.

        Those in eight bits stay so until their layer uses them.
        """
        weights = {
            name: tree
            if name == "blocks" and self._by_layer
            else _made_whole(tree, self.specs[name], self._dtypes[name])
            for name, tree in params.items()
        }
        return jax.tree.map(lambda x: own(x, TOKEN_AXES), weights)

    def _prepare_layer(self, weights: Params) -> Params:
        whole = _made_whole(weights, self._layer_specs, self._dtypes["blocks"]) if self._by_layer else weights
        return in_numbers(whole, self._dtypes["blocks"])

    def decoder(self, weights: Params) -> Decoder:
        """The model with these weights."""
        model: Decoder = nnx.merge(self._description.graph, of_model(weights))
        return model

    def rows(self, batch: Batch) -> jax.Array:
        """int32 [B]: numbers of this device's sequences within the step."""
        B = batch.inputs.shape[0]
        return B * index_along(*BATCH_AXES) + jnp.arange(B, dtype=jnp.int32)

    def loss(self, weights: Params, batch: Batch, rows: jax.Array, key: jax.Array | None) -> Sums:
        """Sums over this device's tokens. With a key it is training's loss, with dropout; without, evaluation's."""
        config, execution = self._job.effective, self._job.execution
        decoder = self.decoder(weights)
        inputs, targets, segments, counted = map(jnp.asarray, batch[:4])
        hidden = decoder(inputs, segments, rows, self.how, key)
        table = decoder.output_table(self.how)
        loss, weight = cross_entropy(
            hidden,
            table,
            targets,
            counted,
            chunk_tokens=execution.loss_chunk_tokens,
            vocab_axis=None if table.shape[0] == config.model.vocab_size else "model",
            z_loss=config.training.z_loss,
            label_smoothing=config.training.label_smoothing,
            softcap=config.model.logit_softcap,
            transpose_gradients=self.how.transpose_gradients,
            shift="max" if key is None else execution.loss_shift,
        )
        return Sums(loss, weight)

    def reduce(self, gradients: Params) -> Params:
        """The sums of all devices' gradients, float32, of which this one keeps what it owns.

        They travel in the type they have: float32 as sums of micro-batches, the compute type as those of one alone.
        """

        def reduced(x: jax.Array, spec: PartitionSpec, whole: bool) -> jax.Array:
            total = reduce_gradient(x, spec, TOKEN_AXES) if whole else _reduce_rest(x, spec)
            return total.astype(jnp.float32)

        return {
            name: jax.tree.map(
                lambda x, spec, whole=not (name == "blocks" and self._by_layer): reduced(x, spec, whole),
                tree,
                self.specs[name],
            )
            for name, tree in gradients.items()
        }


def _multiplied(job: ResolvedJob, part: LowPrecisionPart) -> Multiplied:
    """How a part's projections are multiplied."""
    low = part in job.precision.products_in
    return Multiplied(job.precision.products if low else "compute", job.hardware.platform == "cpu")


def kept_specs(description: Description, sharding: Sharding, kept: EightBit | None) -> Params:
    """How the mesh splits a model's parameters, whose layers' matrices may be kept in eight bits."""
    specs = description.specs(sharding)
    if kept is None:
        return specs
    return specs | {"blocks": eight_bit_specs(specs["blocks"], description.matrices()["blocks"], kept)}


def _made_whole(weights: Any, specs: Any, dtypes: Any) -> Any:
    def whole(x: Any, spec: Any, dtype: jnp.dtype) -> Any:
        # What travels is as small as can be: eight bits as they are, all else in the type it is used in.
        return jax.tree.map(gather_weight, x if is_eight_bit(x) else x.astype(dtype), spec)

    return jax.tree.map(whole, weights, specs, dtypes, is_leaf=is_eight_bit)


def _reduce_rest(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Sums over the axes that do not split the weight; over the others its gather's transpose has summed already."""
    split = {axis for names in spec for axis in ((names,) if isinstance(names, str) else names or ())}
    return add_over(x, *(axis for axis in TOKEN_AXES if axis not in split))


def _accumulate(
    visit: Callable[[Batch, jax.Array], tuple[StepSums, Params]], batch: Batch, rows: jax.Array, count: int
) -> tuple[StepSums, Params]:
    """Adds up what `visit` finds in `count` micro-batches; the i-th takes this device's sequences i, i + count, ..."""
    if count == 1:
        return visit(batch, rows)

    parts = in_micro_batches((batch, rows), count)
    shapes = jax.eval_shape(visit, *jax.tree.map(lambda x: x[0], parts))

    def add(total: tuple[StepSums, Params], part: tuple[Batch, jax.Array]) -> tuple[tuple[StepSums, Params], None]:
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, visit(*part)), None

    nothing = jax.tree.map(
        lambda x: own(jnp.zeros(x.shape, jnp.float32), tuple(sorted(x.manual_axis_type.varying))), shapes
    )
    total, _ = jax.lax.scan(add, nothing, parts)
    return total


def in_micro_batches[Tree](tokens: Tree, count: int) -> Tree:
    """[B, ...] -> [count, B / count, ...] for each array."""

    def cut(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, tokens)


def _is_spec(x: object) -> bool:
    return isinstance(x, PartitionSpec)
