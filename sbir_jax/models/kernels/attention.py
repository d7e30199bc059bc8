"""Multi-head attention, by what each platform does fastest."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from sbir_jax.models.kernels.blocking import largest_divisor
from sbir_jax.runtime import hardware

# Logits of this size still fit a processor's cache.
CACHE = 2**22
# Up to this size a gradient keeps all logits: it is faster than computing them again.
SMALL = 2**24
# The logit of a key that is not seen: its probability is exactly 0, and what multiplies
# logits has a finite gradient.
UNSEEN = -1e9
# Queries and keys at a time in the TPU's kernel. Shorter sequences have small logits.
TPU_BLOCK = 512


def attend(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    v: Float[Array, "b m c"],
    heads: int,
) -> Float[Array, "b n c"]:
    """Multi-head attention, by what the device that will run it does fastest."""
    width, lengths = q.shape[-1] // heads, (q.shape[1], k.shape[1])
    platform = hardware.platform()
    if platform == "cpu":
        small = 4 * len(q) * heads * lengths[0] * lengths[1] <= SMALL
        return (_attend_at_once if small else _attend_in_blocks)(q, k, v, heads)
    if platform == "tpu" and _tpu_takes(width, lengths):
        return _attend_on_tpu(q, k, v, heads)
    if platform == "gpu" and _cudnn_takes(width, lengths, q.dtype):
        return _attend_by_cudnn(q, k, v, heads)
    return attend_with_map(q, k, v, heads)[0]


def attend_with_map(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    v: Float[Array, "b m c"],
    heads: int,
    mask: Bool[Array, "... _ m"] | None = None,
) -> tuple[
    Float[Array, "b n c"], Float[Array, "b {heads} n m"], Float[Array, "b {heads} n m"]
]:
    """Multi-head attention, its probabilities (float32, summing to 1 over m), and the
    logits that they are the softmax of.

    Args:
      mask: which keys each query sees: [n m], or [b 1 m] where images differ.
    """
    q, k, v = (_split(x, heads) for x in (q, k, v))
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
        logits = jnp.where(mask, logits, UNSEEN)
    probabilities = jax.nn.softmax(logits, axis=-1)
    y = jnp.einsum("bhnm,bhmd->bnhd", probabilities.astype(v.dtype), v)
    return y.reshape(*y.shape[:2], -1), probabilities, logits


def _split(x, heads):
    # Heads next to the batch: measured faster on CPU than heads in the middle.
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _cudnn_takes(width: int, lengths: tuple[int, int], dtype: Any) -> bool:
    """Whether cuDNN's flash attention is there and made for heads like these."""
    return (
        "cuda" in hardware.device().client.platform_version
        and hardware.compute_capability(hardware.device())
        >= hardware.BFLOAT16_CAPABILITY
        and dtype in (jnp.bfloat16, jnp.float16)
        and width <= 128
        and width % 8 == 0
        and lengths[0] % 2 == 0
    )


def _attend_by_cudnn(q, k, v, heads):
    """Its gradient takes no odd number of keys, and a text has 77: one more, unseen."""
    keys, seen = k.shape[1], None
    if keys % 2:
        k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
        seen = jnp.full(len(k), keys, jnp.int32)
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    y = jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=seen, implementation="cudnn"
    )
    return y.reshape(*y.shape[:2], -1)


def _tpu_takes(width: int, lengths: tuple[int, int]) -> bool:
    return width <= 128 and all(n % TPU_BLOCK == 0 for n in lengths)


def _attend_on_tpu(q, k, v, heads):
    """JAX's own kernel. The compiler cannot split it over devices, so it is told how:
    the batch along the first axis of the mesh, as everywhere."""
    from jax.experimental.pallas.ops.tpu import flash_attention as tpu

    b, n, c = q.shape
    q, k, v = (_split(x, heads) for x in (q, k, v))
    blocks = {field.name: TPU_BLOCK for field in dataclasses.fields(tpu.BlockSizes)}
    run = functools.partial(
        tpu.flash_attention,
        sm_scale=q.shape[-1] ** -0.5,
        block_sizes=tpu.BlockSizes(**{**blocks, "block_b": 1}),
    )
    mesh = jax.typeof(q).sharding.mesh
    if not mesh.empty:
        first = mesh.axis_names[0]
        batch = PartitionSpec(None if b % mesh.shape[first] else first)
        run = jax.shard_map(
            run, mesh=mesh, in_specs=(batch,) * 3, out_specs=batch, check_vma=False
        )
    return run(q, k, v).transpose(0, 2, 1, 3).reshape(b, n, c)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend_at_once(q, k, v, heads):
    """In blocks, but a gradient keeps all logits, and is the closed form.

    Logits are divided by their sum only after the product with the values, which is
    smaller.
    """
    return _attend_in_blocks(q, k, v, heads)


def _products(equation, *factors):
    """Products in the type of the first factor, with sums in float32."""
    factors = [x.astype(factors[0].dtype) for x in factors]
    return jnp.einsum(equation, *factors, preferred_element_type=jnp.float32)


def _joined(x, dtype):
    """Back from heads: the inverse of `_split`, in a layer's type."""
    return x.transpose(0, 2, 1, 3).reshape(len(x), x.shape[2], -1).astype(dtype)


def _at_once_forward(q, k, v, heads):
    kept = tuple(_split(x, heads) for x in (q, k, v))
    logits = _products("bhnd,bhmd->bhnm", *kept[:2]) * kept[0].shape[-1] ** -0.5
    # Largest 1, as in any softmax, and not yet of sum 1.
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    factor = 1 / weights.sum(axis=-1, keepdims=True)
    weights = weights.astype(v.dtype)
    y = _products("bhnm,bhmd->bhnd", weights, kept[2]) * factor
    return _joined(y, v.dtype), (*kept, weights, factor, y)


def _at_once_backward(heads, kept, g):
    q, k, v, weights, factor, y = kept
    scale, dtype = q.shape[-1] ** -0.5, q.dtype
    g = _split(g, heads) * factor
    mean = (g * y).sum(axis=-1, keepdims=True)
    dlogits = weights * (_products("bhnd,bhmd->bhnm", g.astype(dtype), v) - mean)
    dlogits = dlogits.astype(dtype)
    dq = _products("bhnm,bhmd->bhnd", dlogits, k) * scale
    dk = _products("bhnm,bhnd->bhmd", dlogits, q) * scale
    dv = _products("bhnm,bhnd->bhmd", weights, g)
    return tuple(_joined(x, dtype) for x in (dq, dk, dv))


_attend_at_once.defvjp(_at_once_forward, _at_once_backward)


def _attend_in_blocks(q, k, v, heads):
    """One head and a few queries at a time: logits never leave the cache.

    All images of the batch are in a block: the batch may be spread over devices.
    """
    b, n, c = q.shape
    most = CACHE // (4 * b * k.shape[1])
    rows = largest_divisor(n, most)
    # Heads first, then blocks of queries: [heads, n / rows, b, rows, d].
    q = _split(q, heads).reshape(b, heads, n // rows, rows, -1).transpose(1, 2, 0, 3, 4)
    k, v = (_split(x, heads).swapaxes(0, 1) for x in (k, v))

    def one_head(head):
        q, k, v = head

        # Kept for the gradient are queries, keys and values, not the probabilities.
        @jax.checkpoint
        def one_block(q):
            logits = jnp.einsum(
                "bnd,bmd->bnm", q, k, preferred_element_type=jnp.float32
            )
            probabilities = jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)
            return jnp.einsum("bnm,bmd->bnd", probabilities.astype(v.dtype), v)

        return jax.lax.map(one_block, q)

    y = jax.lax.map(one_head, (q, k, v))
    return y.transpose(2, 1, 3, 0, 4).reshape(b, n, c)
