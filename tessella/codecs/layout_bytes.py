"""The layout of tokens as bytes of a token file.

A file may spell its layout out, so that it can be listed without its model. One *kind* byte is
followed by uvarints::

    0  grid         grid, alphabets, order
    1  multi-scale  count, alphabets, order, count x grid         (all scales alike but for size)
    2  sequence     length, alphabets, order
    3  levels       count, count x (grid, alphabets or 0 and quantisation, order)
    4  latent       grid, quantisation, order                     (continuous, stored as integers)
    5  derived      exponent e and range b of the model's layout  (continuous, one segment)
    64 + p          the model's layout; its first p parts together in one segment
    128 + m, u8 n   the model's layout; its first 256 m + n + 1 positions in one segment

``grid`` is h, w (h = 0: a sequence of length w); ``order`` is 0 none, 1 groups, 2 length.
``alphabets`` is 2 G and one size when all G groups are alike, else 2 G + 1 and G sizes; a size is
2 log2(K) for a power of two and 2 K + 1 otherwise. ``quantisation`` is the channel count C, the
zigzag exponent e (a stored integer v means v * 2^-e) and b (symbols cover [-2^b, 2^b - 1]).
Where a layout with continuous levels is derived by kind 64 + p, e is 8 and b is the prior's.
"""

from __future__ import annotations

from tessella.codecs.byte_reader import ByteReader, uvarint
from tessella.codecs.container_errors import LimitError, MalformedError
from tessella.codecs.limits import Limits
from tessella.codecs.stored_layout import Order, StoredLayout, StoredLevel

_ORDERS: tuple[Order, ...] = ("none", "groups", "length")
_DERIVED = 64
_DERIVED_LENGTH = 128


def write_layout(layout: StoredLayout) -> bytes:
    """Serialise a layout in its only accepted form."""
    levels = layout.levels
    if not levels:
        return _write_derived(layout)
    first = levels[0]
    if len(levels) == 1 and first.channels:
        return b"\x04" + _write_grid(first.grid) + _write_quantisation(first) + _write_order(first)
    if len(levels) == 1:
        kind = 0 if len(first.grid) == 2 else 2
        grid = _write_grid(first.grid) if kind == 0 else uvarint(first.grid[0])
        return bytes([kind]) + grid + _write_alphabets(first) + _write_order(first)
    alike = {(level.vocab_sizes, level.channels, level.ordered) for level in levels}
    if len(alike) == 1 and not first.channels:
        head = b"\x01" + uvarint(len(levels)) + _write_alphabets(first) + _write_order(first)
        return head + b"".join(_write_grid(level.grid) for level in levels)
    out = b"\x03" + uvarint(len(levels))
    for level in levels:
        values = b"\x00" + _write_quantisation(level) if level.channels else _write_alphabets(level)
        out += _write_grid(level.grid) + values + _write_order(level)
    return out


def _write_derived(layout: StoredLayout) -> bytes:
    if layout.quantisation is not None:
        exponent, range_bits = layout.quantisation
        return b"\x05" + uvarint(_zigzag(exponent)) + uvarint(range_bits)
    if layout.derived_length:
        high, low = divmod(layout.derived_length - 1, 256)
        return bytes([_DERIVED_LENGTH + high, low])
    return bytes([_DERIVED + layout.derived_parts])


def _write_grid(grid: tuple[int, ...]) -> bytes:
    return uvarint(0 if len(grid) == 1 else grid[0]) + uvarint(grid[-1])


def _write_order(level: StoredLevel) -> bytes:
    return uvarint(_ORDERS.index(level.ordered))


def _write_alphabets(level: StoredLevel) -> bytes:
    sizes = level.vocab_sizes
    mixed = len(set(sizes)) > 1
    codes = [
        2 * (size.bit_length() - 1) if size & (size - 1) == 0 else 2 * size + 1
        for size in (sizes if mixed else sizes[:1])
    ]
    return uvarint(2 * len(sizes) + mixed) + b"".join(map(uvarint, codes))


def _write_quantisation(level: StoredLevel) -> bytes:
    return uvarint(level.channels) + uvarint(_zigzag(level.exponent)) + uvarint(level.range_bits)


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def read_layout(reader: ByteReader, limits: Limits) -> StoredLayout:
    """Read a layout and check it against the limits; nothing is allocated for what it claims.

    Raises:
        TokenFileError: if a field is malformed, over a limit or not in its only accepted form.
    """
    start = reader.position
    kind = reader.byte("layout kind")
    if kind >= _DERIVED_LENGTH:
        length = (kind - _DERIVED_LENGTH << 8) + reader.byte("layout length") + 1
        return StoredLayout(derived_length=length)
    if kind > _DERIVED:
        return StoredLayout(derived_parts=kind - _DERIVED)
    if kind > 5:
        raise MalformedError(f"layout kind {kind} at byte {start}; expected 0-5 or 65-255")
    levels: tuple[StoredLevel, ...] = ()
    quantisation = None
    if kind == 5:
        quantisation = _read_quantisation(reader)
    elif kind == 1:
        levels = _read_scales(reader, limits)
    elif kind == 3:
        count = _read_count(reader, "number of levels", 2, limits.levels)
        levels = tuple(_read_level(reader, limits, kind) for _ in range(count))
    else:
        levels = (_read_level(reader, limits, kind),)
    layout = StoredLayout(levels, quantisation=quantisation)
    if layout.num_values > limits.tokens:
        raise LimitError(
            f"the layout at byte {start} has {layout.num_values} tokens; the limit is "
            f"{limits.tokens} (Limits.tokens)"
        )
    if write_layout(layout) != bytes(reader.data[start : reader.position]):
        raise MalformedError(f"the layout at byte {start} is not in its shortest form")
    return layout


def _read_scales(reader: ByteReader, limits: Limits) -> tuple[StoredLevel, ...]:
    count = _read_count(reader, "number of scales", 2, limits.levels)
    sizes = _read_alphabets(reader, limits)
    order = _read_order(reader)
    return tuple(
        _checked(StoredLevel(_read_grid(reader), sizes, 0, order), reader) for _ in range(count)
    )


def _read_level(reader: ByteReader, limits: Limits, kind: int) -> StoredLevel:
    grid = (_read_count(reader, "length", 1),) if kind == 2 else _read_grid(reader)
    if kind == 0 and len(grid) != 2:
        raise MalformedError(f"grid height 0 before byte {reader.position}; expected at least 1")
    sizes: tuple[int, ...] = ()
    channels = exponent = range_bits = 0
    if kind != 4:
        sizes = _read_alphabets(reader, limits, may_be_continuous=kind == 3)
    if not sizes:
        channels = _read_count(reader, "number of channels", 1, limits.channels)
        exponent, range_bits = _read_quantisation(reader)
    order = _read_order(reader)
    return _checked(StoredLevel(grid, sizes, channels, order, exponent, range_bits), reader)


def _read_quantisation(reader: ByteReader) -> tuple[int, int]:
    zigzag = _read_count(reader, "quantisation exponent", 0, 128)
    exponent = -(zigzag + 1) // 2 if zigzag % 2 else zigzag // 2
    return exponent, _read_count(reader, "quantisation range", 0, 16)


def _checked(level: StoredLevel, reader: ByteReader) -> StoredLevel:
    if level.ordered == "length" and len(level.grid) != 1:
        raise MalformedError(f"ordered length for a map before byte {reader.position}")
    return level


def _read_count(reader: ByteReader, what: str, least: int, most: int = 2**32) -> int:
    start = reader.position
    value = reader.uvarint(what)
    if value < least:
        raise MalformedError(f"{what} {value} at byte {start}; expected at least {least}")
    if value > most:
        raise LimitError(f"{what} {value} at byte {start}; the limit is {most}")
    return value


def _read_grid(reader: ByteReader) -> tuple[int, ...]:
    height = reader.uvarint("grid height")
    width = _read_count(reader, "grid width", 1)
    return (height, width) if height else (width,)


def _read_order(reader: ByteReader) -> Order:
    return _ORDERS[_read_count(reader, "order", 0, 2)]


def _read_alphabets(
    reader: ByteReader, limits: Limits, *, may_be_continuous: bool = False
) -> tuple[int, ...]:
    start = reader.position
    code = reader.uvarint("number of groups")
    groups = code >> 1
    if code == 0 and may_be_continuous:
        return ()
    if groups == 0:
        raise MalformedError(f"0 groups at byte {start}; expected at least 1")
    if groups > limits.groups:
        raise LimitError(f"{groups} groups at byte {start}; the limit is {limits.groups}")
    if code & 1:
        return tuple(_read_alphabet(reader, limits) for _ in range(groups))
    return (_read_alphabet(reader, limits),) * groups


def _read_alphabet(reader: ByteReader, limits: Limits) -> int:
    start = reader.position
    code = reader.uvarint("alphabet")
    size = code >> 1 if code & 1 else 1 << min(code >> 1, 64)
    if size < 2:
        raise MalformedError(f"alphabet of {size} at byte {start}; expected at least 2")
    if size > limits.alphabet:
        raise LimitError(f"alphabet of {size} at byte {start}; the limit is {limits.alphabet}")
    return size


__all__ = ["read_layout", "write_layout"]
