"""What is learned to match token by token, for either kind of tokens."""

from typing import Any

import flax.struct


@flax.struct.dataclass
class TokenMatcher:
    """The names of the fields are those in checkpoints.

    Attributes:
      source: parameters of what makes tokens: a `VisionTransformer`, or a `TokenReader`
        of a frozen backbone's.
      relation: of `models.token_relation.Relation`.
    """

    source: Any
    relation: Any
