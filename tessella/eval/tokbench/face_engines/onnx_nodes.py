"""The kinds of the first nodes of an ONNX file, read from its protocol-buffer bytes.

onnxruntime does not tell them, and three nested fields do not justify the package onnx::

    ModelProto { 7: GraphProto { 1: NodeProto { 4: op_type } } }
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from tessella.errors import CheckpointError

_GRAPH, _NODE, _OP_TYPE = 7, 1, 4
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_LONGEST_VARINT = 10

Buffer = mmap.mmap | bytes


def first_node_kinds(file: str | Path, count: int = 8) -> list[str]:
    """Return the operators of the first nodes, such as ``Conv``, in the order of the file.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    kinds: list[str] = []
    try:
        with (
            Path(file).open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            for graph in _fields(data, (0, len(data)), _GRAPH):
                for node in _fields(data, graph, _NODE):
                    if len(kinds) == count:
                        return kinds
                    names = [data[a:b] for a, b in _fields(data, node, _OP_TYPE)]
                    kinds.append(names[-1].decode("utf-8") if names else "")
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # an empty file, or no protocol buffer
        raise CheckpointError(f"{file} is no ONNX file: {error}") from error
    return kinds


def _fields(data: Buffer, span: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    """Yield where the contents of one field begin and end within a message."""
    position, end = span
    while position < end:
        key, position = _varint(data, position, end)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind in (_FIXED_64, _FIXED_32):
            position += 8 if kind == _FIXED_64 else 4
        elif kind == _BYTES:
            length, position = _varint(data, position, end)
            if length > end - position:
                raise ValueError(f"a field of {length} bytes where {end - position} are left")
            if field == wanted:
                yield position, position + length
            position += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return an integer of 7 bits a byte, lowest first, and the position behind it."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if position + index >= end:
            raise ValueError("it ends within a number")
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number of more than ten bytes")


__all__ = ["first_node_kinds"]
