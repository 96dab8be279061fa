"""What a token file needs from its model: the layout of a picture and the entropy prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tessella.codecs.container_errors import UnknownModelError
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.token_levels import DEFAULT_EXPONENT
from tessella.tokens import TokenLayout


@dataclass(frozen=True, slots=True)
class TokenSpace:
    """A token space and one entropy prior for it.

    Args:
        space_id: identity of the token space, hexadecimal digits.
        layout: the layout of a picture's tokens, from its height and width in pixels.
        prior: the entropy prior; None to code without one (profile 0).
        exponent: e of the quantisation ``round(x 2^e)`` of continuous levels, unless a writer asks
            for another.
    """

    space_id: str
    layout: Callable[[int, int], TokenLayout] | None = None
    prior: Prior | None = None
    exponent: int = DEFAULT_EXPONENT


Resolver = Callable[[bytes, bytes], TokenSpace]
"""Finds a token space by the prefixes of its own and its prior's identity that a file carries."""


def resolver_for(spaces: Iterable[TokenSpace]) -> Resolver:
    """Return a resolver over token spaces at hand.

    The resolver raises :class:`UnknownModelError`, naming the identity, when none fits.
    """
    known = tuple(spaces)

    def resolve(space_id: bytes, prior_id: bytes) -> TokenSpace:
        of_space = [s for s in known if bytes.fromhex(s.space_id).startswith(space_id)]
        for space in of_space:
            if not prior_id or (space.prior and space.prior.identity.startswith(prior_id)):
                return space
        missing = f"prior {prior_id.hex()} of token space" if of_space else "token space"
        raise UnknownModelError(
            f"{missing} {space_id.hex()} (identity at byte 6) is unknown here; the "
            f"{len(known)} known: {', '.join(s.space_id[:8] for s in known) or 'none'}; "
            "load the model that wrote the file"
        )

    return resolve


__all__ = ["Resolver", "TokenSpace", "resolver_for"]
