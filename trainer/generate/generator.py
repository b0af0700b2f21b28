"""Continues prompts of different lengths together, in two compiled programs over a key/value cache.

    prefill   chunk_size tokens of every row at a time, each chunk over the whole prefix before it
    step      draws every row's next token from the newest hidden state, then reads it into the cache

A program is compiled once for each number of rows and bucket of the cache's length; numbers of the sampling are its
inputs. The host looks at the result every few steps only, so that devices need not wait for it; what was drawn beyond
a stop string by then is dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from trainer.forward import output_logits
from trainer.generate.cache import Cache, bytes_of
from trainer.generate.draw import Filters, draw, penalized
from trainer.generate.passes import Passes
from trainer.mesh import replicated
from trainer.model import Params
from vishwamai.contract.generation import CacheFormat, Sampling
from vishwamai.contract.resolved import ResolvedJob

STEPS_UNSEEN = 8
"""Steps between two looks of the host."""
_LEAST_LENGTH, _LEAST_CHUNK = 64, 8

Stopped = Callable[[list[list[int]]], list[bool]]
"""Whether each row's new tokens so far hold a stop string."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a generation the tokenizer and the job say."""

    max_length: int
    """Prompt and new tokens together, at most."""
    eos_ids: tuple[int, ...]
    """Each of them ends a row."""
    barred: tuple[int, ...] = ()
    """Ids that are never drawn."""


class Rules(NamedTuple):
    """Limits and sampling as inputs of the step."""

    filters: Filters
    seed: jax.Array
    """uint32."""
    ends: jax.Array
    """bool [V]: ids that end a row."""
    min_length: jax.Array
    """int32."""
    allowed: jax.Array
    """bool [V]."""
    room: jax.Array
    """int32 [B]: new tokens of each row, at most."""


class State(NamedTuple):
    """What goes from step to step beside the cache."""

    hidden: jax.Array
    """[B, H] of each row's newest token."""
    positions: jax.Array
    """int32 [B]: tokens in each row so far."""
    tokens: jax.Array
    """int32 [B, N]: the new ones."""
    drawn: jax.Array
    """int32 [B]: how many of them there are, the end of document not counted."""
    done: jax.Array
    """bool [B]."""
    ended: jax.Array
    """bool [B]: done by drawing the end of document."""
    seen: jax.Array | None
    """bool [B, V]: ids in the row so far; only kept for a repetition penalty."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What one row became."""

    tokens: list[int]
    ended: bool
    """By an end of document, which is not among the tokens."""


class Generator:
    """Generates with one job's model; `kept` is the cache's format, by default what the job says."""

    def __init__(self, job: ResolvedJob, mesh: Mesh, kept: CacheFormat | None = None) -> None:
        self.kept: CacheFormat = kept or cache_format(job)
        self._model, self._chunk = job.effective.model, job.effective.sequence.chunk_size
        self._passes = Passes(job, mesh, self.kept)
        self._everywhere = everywhere = replicated(mesh)
        shardings = self._passes.cache_shardings
        self._cast = jax.jit(self._passes.cast)
        self._empty = jax.jit(self._passes.empty, static_argnums=(0, 1), out_shardings=shardings)
        self._prefill = jax.jit(self._read_chunk, donate_argnums=1, out_shardings=(shardings, everywhere))
        self._step = jax.jit(self._draw_and_read, donate_argnums=(1, 2), out_shardings=(shardings, everywhere))

    def generate(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        limits: Limits,
        stopped: Stopped | None = None,
    ) -> list[Continuation]:
        """What the model adds to each prompt of one or more ids.

        Args:
            params: the job's parameters, float32.
            prompts: ids; one that leaves no room within limits.max_length gets nothing added.
            sampling: how to draw; its stop strings are `stopped`'s affair, its min_length must be set.
            limits: where to end.
            stopped: looked at every few steps; a row that it ends may have a few tokens beyond the stop.
        """
        room = [max(0, min(sampling.max_new_tokens, limits.max_length - len(prompt))) for prompt in prompts]
        if not any(room):
            return [Continuation([], False) for _ in prompts]
        rows = [list(p) if space else list(p[:1]) for p, space in zip(prompts, room, strict=True)]
        weights = self._cast(params)
        cache, state, rules = self._begin(weights, rows, room, sampling, limits)
        for number in range(max(room)):
            cache, state = self._step(weights, cache, state, rules)
            if (number + 1) % STEPS_UNSEEN == 0:
                done = np.asarray(state.done)
                if stopped is not None:
                    found = stopped([one.tokens for one in _continuations(state, len(prompts))])
                    done = done | np.pad(np.array(found), (0, len(done) - len(found)))
                    state = state._replace(done=jax.device_put(done, self._everywhere))
                if done.all():
                    break
        return _continuations(state, len(prompts))

    def cache_bytes(self, rows: int, length: int) -> int:
        """Bytes of a cache for this many rows and positions."""
        return bytes_of(jax.eval_shape(lambda: self._passes.empty(rows, length)))

    def _begin(
        self, weights: Params, rows: list[list[int]], room: list[int], sampling: Sampling, limits: Limits
    ) -> tuple[Cache, State, Rules]:
        """The cache with all prompts read, and what the first step needs."""
        longest = max(map(len, rows))
        B = -(-len(rows) // self._passes.row_devices) * self._passes.row_devices
        chunk = min(self._chunk, _power_of_two(longest, _LEAST_CHUNK))
        padded = -(-longest // chunk) * chunk
        tokens = np.zeros((B, padded), np.int32)
        for row, ids in zip(tokens, rows, strict=False):
            row[: len(ids)] = ids
        lengths = np.array([*map(len, rows), *[1] * (B - len(rows))], np.int32)
        spaces = np.array([*room, *[0] * (B - len(rows))], np.int32)
        needed = max(padded, max(len(ids) + space for ids, space in zip(rows, room, strict=True)))
        cache = self._empty(B, bucket(needed))
        hidden = jnp.zeros((B, self._model.hidden_dim), self._passes.dtype)
        for start in range(0, padded, chunk):
            part = tokens[:, start : start + chunk]
            cache, hidden = self._prefill(weights, cache, hidden, part, np.int32(start), lengths)
        state = self._first_state(hidden, tokens, lengths, spaces, sampling)
        rules = Rules(
            filters=Filters.of(sampling),
            seed=jnp.uint32(sampling.seed),
            ends=_marked(self._model.vocab_size, limits.eos_ids),
            min_length=jnp.int32(sampling.min_length or 0),
            allowed=~_marked(self._model.vocab_size, limits.barred),
            room=jnp.asarray(spaces),
        )
        return cache, state, rules

    def _first_state(
        self, hidden: jax.Array, tokens: np.ndarray, lengths: np.ndarray, spaces: np.ndarray, sampling: Sampling
    ) -> State:
        B = len(lengths)
        seen = None
        if sampling.repetition_penalty != 1.0:
            seen = np.zeros((B, self._model.vocab_size), bool)
            for row, ids, length in zip(seen, tokens, lengths, strict=True):
                row[ids[:length]] = True
        width = _power_of_two(int(spaces.max()), STEPS_UNSEEN)
        fresh = State(
            hidden=hidden,
            positions=jnp.asarray(lengths),
            tokens=jnp.zeros((B, width), jnp.int32),
            drawn=jnp.zeros(B, jnp.int32),
            done=jnp.asarray(spaces == 0),
            ended=jnp.zeros(B, bool),
            seen=None if seen is None else jnp.asarray(seen),
        )
        return jax.device_put(fresh, self._everywhere)

    def _read_chunk(
        self, params: Params, cache: Cache, hidden: jax.Array, tokens: jax.Array, start: jax.Array, lengths: jax.Array
    ) -> tuple[Cache, jax.Array]:
        """Reads tokens [B, T] at positions from `start` on; hidden [B, H] is kept of each row's last prompt token."""
        B, T = tokens.shape
        states, cache = self._passes.extend(params, cache, tokens, jnp.full(B, start))
        place = lengths - 1 - start
        newest = states[jnp.arange(B), jnp.clip(place, 0, T - 1)]
        return cache, jnp.where(((place >= 0) & (place < T))[:, None], newest, hidden)

    def _draw_and_read(self, params: Params, cache: Cache, state: State, rules: Rules) -> tuple[Cache, State]:
        """One step: a token for every row that is not done."""
        logits = self._admissible(params, state, rules)
        token = draw(logits, rules.filters, rules.seed, state.drawn)
        rows = jnp.arange(token.shape[0])
        ended = ~state.done & rules.ends[token]
        new = ~state.done & ~ended
        # Beyond the last column nothing is written.
        tokens = state.tokens.at[rows, jnp.where(new, state.drawn, state.tokens.shape[1])].set(token, mode="drop")
        drawn = state.drawn + new
        seen = None if state.seen is None else state.seen.at[rows, token].max(new)
        states, cache = self._passes.extend(params, cache, token[:, None], state.positions)
        done = state.done | ended | (drawn >= rules.room)
        return cache, State(states[:, 0], state.positions + new, tokens, drawn, done, state.ended | ended, seen)

    def _admissible(self, params: Params, state: State, rules: Rules) -> jax.Array:
        """float32 [B, V]: logits after the repetition penalty, -inf for ids that may not come."""
        logits = output_logits(self._model, params, state.hidden)
        if state.seen is not None and rules.filters.repetition_penalty is not None:
            logits = penalized(logits, state.seen, rules.filters.repetition_penalty)
        too_early = (state.drawn < rules.min_length)[:, None] & rules.ends
        return jnp.where(rules.allowed & ~too_early, logits, -jnp.inf)


def cache_format(job: ResolvedJob) -> CacheFormat:
    """What the job's settings say: fp8, or the computation's own format."""
    if job.effective.memory.kv_cache_fp8:
        return "fp8"
    return "bf16" if job.precision.compute == "bfloat16" else "float32"


def bucket(length: int) -> int:
    """The cache length for this many positions: 64, 96, 128, 192, 256, ..., at most half more than asked for."""
    whole = _power_of_two(length, _LEAST_LENGTH)
    return whole * 3 // 4 if whole > _LEAST_LENGTH and length <= whole * 3 // 4 else whole


def _marked(size: int, ids: tuple[int, ...]) -> jax.Array:
    """Booleans [size], true at the ids."""
    marks = np.zeros(size, bool)
    marks[list(ids)] = True
    return jnp.asarray(marks)


def _power_of_two(number: int, least: int) -> int:
    return max(least, 1 << (number - 1).bit_length())


def _continuations(state: State, count: int) -> list[Continuation]:
    tokens, drawn, ended = (np.asarray(x) for x in (state.tokens, state.drawn, state.ended))
    return [Continuation([int(i) for i in tokens[b, : drawn[b]]], bool(ended[b])) for b in range(count)]
