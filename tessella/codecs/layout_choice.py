"""Which layout a file stores, and which levels a stored one means together with the model."""

from __future__ import annotations

from tessella.codecs.container_errors import LimitError, MalformedError, UnknownModelError
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.limits import Limits
from tessella.codecs.stored_layout import StoredLayout, split_parts
from tessella.codecs.token_levels import (
    Levels,
    cut_length,
    is_truncation,
    quantised_like,
    stored_levels,
    truncate_levels,
)
from tessella.codecs.token_space import TokenSpace
from tessella.errors import ShapeError

_MOST_DERIVED_PARTS = 63
_MOST_DERIVED_LENGTH = 2**15


def choose_layout(
    levels: Levels,
    segments: int,
    image_size: tuple[int, int],
    space: TokenSpace | None,
    prior: Prior | None,
) -> StoredLayout | None:
    """Return the layout to store; None where the model's own will do.

    One-segment files leave it to the model whenever possible, since there each byte counts.
    """
    explicit = StoredLayout(levels)
    if segments > 1 or space is None or space.layout is None:
        return explicit
    plain = stored_levels(space.layout(*image_size))
    full = quantised_like(plain, None, prior)
    for count, part in enumerate(split_parts(plain)[:_MOST_DERIVED_PARTS], start=1):
        if full and truncate_levels(full, part) == levels:
            return None if count == 1 else StoredLayout((), count)
    length = levels[0].grid[0]
    is_cut = full and full[0].ordered == "length" and length <= _MOST_DERIVED_LENGTH
    if is_cut and full and cut_length(full, length) == levels:
        return StoredLayout(derived_length=length)
    continuous = next((level for level in levels if level.channels), None)
    if continuous:
        quantisation = (continuous.exponent, continuous.range_bits)
        if quantised_like(plain, quantisation, None) == levels:
            return StoredLayout(quantisation=quantisation)
    return explicit


def find_levels(
    layout: StoredLayout | None,
    segments: int,
    image_size: tuple[int, int],
    space: TokenSpace | None,
    profile: int,
    limits: Limits,
) -> Levels:
    """Return the levels that a file of so many segments holds.

    Raises:
        TokenFileError: if they cannot be known or contradict the model.
    """
    full = _model_levels(image_size, space)
    if layout is not None and layout.levels:
        if full is not None and not is_truncation(layout.levels, full):
            raise MalformedError(
                f"the stored layout {layout.levels} is not one that the model makes of a picture "
                f"of {image_size[1]}x{image_size[0]} pixels: {full}"
            )
        return layout.levels
    if full is None:
        raise UnknownModelError(
            "the file leaves its layout to its model, which is not here; load the model"
        )
    quantisation = layout.quantisation if layout else None
    levels = quantised_like(full, quantisation, space.prior if space and profile else None)
    if levels is None:
        raise UnknownModelError(
            "the file leaves the range of its continuous tokens to a prior that does not say it"
        )
    if layout and layout.derived_length:
        if len(levels) > 1 or levels[0].ordered != "length":
            raise MalformedError("a length is stored for a model whose tokens are no sequence")
        if layout.derived_length > levels[0].grid[0]:
            raise MalformedError(
                f"length {layout.derived_length} stored; the model makes {levels[0].grid[0]} tokens"
            )
        return cut_length(levels, layout.derived_length)
    parts = split_parts(levels)
    count = (layout.derived_parts or len(parts)) if layout else segments
    if count > len(parts):
        raise MalformedError(
            f"{count} parts of a layout that the model derives; it has {len(parts)}"
        )
    levels = truncate_levels(levels, parts[count - 1])
    total = StoredLayout(levels).num_values
    if total > limits.tokens:
        raise LimitError(f"{total} tokens; the limit is {limits.tokens} (Limits.tokens)")
    return levels


def model_levels(
    image_size: tuple[int, int], space: TokenSpace | None, prior: Prior | None
) -> Levels | None:
    """Return the levels that a model makes of a picture, None if it cannot be known."""
    plain = _model_levels(image_size, space)
    return None if plain is None else quantised_like(plain, None, prior)


def _model_levels(image_size: tuple[int, int], space: TokenSpace | None) -> Levels | None:
    if space is None or space.layout is None:
        return None
    try:
        return stored_levels(space.layout(*image_size))
    except ShapeError as error:
        raise MalformedError(
            f"the model has no layout for {image_size[1]}x{image_size[0]} pixels: {error}"
        ) from error


__all__ = ["choose_layout", "find_levels", "model_levels"]
