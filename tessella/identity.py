"""Identities of token spaces and entropy priors: SHA-256 over a config and tensors.

    digest(tensor) = SHA-256("T" | dtype name | ndim, dims as little-endian u64 | raw bytes)
    digest(object) = SHA-256("O" | canonical JSON of the config
                             | for every tensor by name: name, 0x00, digest(tensor))

Canonical JSON has sorted keys, no spaces, UTF-8, integers as integers and floats as their shortest
round-trip form. The dtype name is torch's without ``torch.``; raw bytes are contiguous and
little-endian. An identity is a name, not an authentication.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def canonical_json(config: Any) -> bytes:
    """Return the one spelling of a JSON value that identities hash."""
    text = json.dumps(
        config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def tensor_digest(tensor: Tensor) -> bytes:
    """Return the SHA-256 of a tensor: its dtype, shape and values."""
    import torch

    values = tensor.detach().cpu().contiguous()
    name = str(values.dtype).removeprefix("torch.")
    raw = values.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        raw = raw.reshape(-1, values.element_size())[:, ::-1]
    dims = struct.pack(f"<{values.ndim + 1}Q", values.ndim, *values.shape)
    total = hashlib.sha256(b"T" + name.encode("ascii") + dims)
    # codebooks are large: no copy of bytes that are in order
    total.update(raw.data if raw.flags.c_contiguous else raw.tobytes())
    return total.digest()


def object_digest(config: Any, tensors: Mapping[str, Tensor]) -> bytes:
    """Return the SHA-256 of a config (a JSON value) and its named tensors."""
    total = hashlib.sha256(b"O" + canonical_json(config))
    for name in sorted(tensors):
        total.update(name.encode("utf-8") + b"\0" + tensor_digest(tensors[name]))
    return total.digest()


__all__ = ["canonical_json", "object_digest", "tensor_digest"]
