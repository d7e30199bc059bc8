"""What pairs are trained on: nearer retrieval tokens, and relation scores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.adapters.token_sources import TokenSource
from sbir_jax.data.triplets import MODALITY
from sbir_jax.models.token_relation import Related, Relation
from sbir_jax.tasks.token_matching.setup import PairConfig

NEAR = 1e-6  # added to differences, as PyTorch does: no gradient is infinite


def distance(a: Float[Array, "b c"], b: Float[Array, "b c"]) -> Float[Array, " b"]:
    """L2."""
    return jnp.linalg.norm(a - b + NEAR, axis=-1)


def pair_losses(
    right: Related, wrong: Related, config: PairConfig
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Of b sketches with their photos and with wrong ones: the triplet loss of the
    retrieval tokens after cross-attention, and the mean square error of relation
    scores. As the release has them, before their weights."""
    nearer = distance(right.sketch, right.photo)
    further = distance(right.sketch, wrong.photo)
    triplet = jax.nn.relu(config.margin + nearer - further).mean()
    scores = jax.nn.sigmoid(jnp.stack([right.logit, wrong.logit]))
    targets = jnp.array([[config.right], [config.wrong]])
    return triplet, jnp.square(scores - targets).mean()


def objective(
    trained: TokenMatcher,
    batch: dict[str, Float[Array, "b y x c"]],
    key: Array,
    *,
    source: TokenSource,
    relation: Relation,
    config: PairConfig,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of both losses, and each.

    The release takes another sketch of the class for the wrong pair; here it is the
    same one, whose tokens are there already.

    Args:
      batch: "sketch", "positive" and "negative", what `TokenSource.read` gives.
    """
    first, second = jax.random.split(key)
    rows = jnp.concatenate([batch[name] for name in MODALITY])
    states = source.states(trained.source, rows, first).states
    sketch, positive, negative = jnp.split(states, 3)
    found = relation.apply(
        {"params": trained.relation},
        jnp.concatenate([sketch, sketch]),
        jnp.concatenate([positive, negative]),
        False,
        rngs={"dropout": second},
    )
    b = len(sketch)
    right, wrong = (
        jax.tree.map(lambda x, part=part: x[part], found)
        for part in (slice(b), slice(b, None))
    )
    triplet, error = pair_losses(right, wrong, config)
    loss = config.triplet_weight * triplet + config.relation_weight * error
    above = jnp.mean(right.logit > wrong.logit)
    return loss, {"triplet": triplet, "relation": error, "ordered": above}
