"""Which mesh axes a value differs over, inside `jax.shard_map(check_vma=True)`; outside of one, over none.

A loop's carry must enter with the axes that it leaves with, and the cotangent that a custom_vjp returns must differ
over the axes of its primal: what each device computed from an input that all of them share has to be summed.
"""

import jax


def varying_axes(*arrays: jax.Array) -> frozenset[str]:
    """Mesh axes over which at least one of the arrays differs."""
    return frozenset().union(*(jax.typeof(array).manual_axis_type.varying for array in arrays))


def vary_like(array: jax.Array, *others: jax.Array) -> jax.Array:
    """The same values, typed as differing over every axis that one of the others differs over."""
    missing = varying_axes(*others) - varying_axes(array)
    return jax.lax.pcast(array, tuple(sorted(missing)), to="varying") if missing else array


def cotangent_of(primal: jax.Array, cotangent: jax.Array) -> jax.Array:
    """The cotangent in the primal's dtype, summed over the axes that the primal does not differ over."""
    shared = varying_axes(cotangent) - varying_axes(primal)
    if shared:
        cotangent = jax.lax.psum(cotangent, tuple(sorted(shared)))
    return vary_like(cotangent.astype(primal.dtype), primal)
