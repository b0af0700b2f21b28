"""Attention and its gradients in float64, by the definition, over whole score matrices."""

import numpy as np

from trainer.attention.pattern import Pattern


def heads(x, count):
    """[B, T, count * D] -> [B, count, T, D] in float64."""
    x = np.asarray(x, np.float64)
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


def flat(x):
    """[B, N, T, D] -> [B, T, N * D]."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def seen(query_segments, key_segments, offset, window):
    """[B, T, S], one entry at a time."""
    B, T = query_segments.shape
    mask = np.zeros((B, T, key_segments.shape[1]), bool)
    for b, t, j in np.ndindex(mask.shape):
        i = offset + t
        together = query_segments[b, t] == key_segments[b, j] != 0
        mask[b, t, j] = together and j <= i and (window is None or i - window < j)
    return mask


def reference(inputs, offset, pattern: Pattern, d_out, keep=None):
    """Output [B, T, N * D] and gradients of sum(output * d_out) for q, k and v.

    inputs: q, k, v, segments of the queries and of the keys; keep: what dropout leaves, [B, N, T, S], or None.
    """
    q, k, v, query_segments, key_segments = inputs
    N, K, G, c = pattern.heads, pattern.kv_heads, pattern.group, pattern.softcap
    q, d_out = heads(q, N), heads(d_out, N)
    k, v = (np.repeat(heads(x, K), G, axis=1) for x in (k, v))
    raw = pattern.scale * q @ k.swapaxes(-1, -2)
    scores = raw if c is None else c * np.tanh(raw / c)
    mask = seen(query_segments, key_segments, offset, pattern.window)[:, None]
    masked = np.where(mask, scores, -np.inf)
    highest = masked.max(-1, keepdims=True)
    p = np.exp(masked - np.where(np.isfinite(highest), highest, 0))
    p /= np.maximum(p.sum(-1, keepdims=True), 1e-300)
    factor = 1.0 if keep is None else keep / (1 - pattern.dropout_rate)
    out = (p * factor) @ v
    dv = (p * factor).swapaxes(-1, -2) @ d_out
    dp = factor * (d_out @ v.swapaxes(-1, -2))
    ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
    if c is not None:
        ds = ds / np.cosh(raw / c) ** 2
    dq, dk = pattern.scale * ds @ k, pattern.scale * ds.swapaxes(-1, -2) @ q
    dk, dv = (x.reshape(x.shape[0], K, G, *x.shape[2:]).sum(2) for x in (dk, dv))
    return flat(out), (flat(dq), flat(dk), flat(dv))
