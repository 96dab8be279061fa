"""Token files on disk, and the shortest ways between pictures, tokens and files.

The model of a token file is found by the identity that the file carries, among the models that
ship with the package and those on the search path (see :mod:`tessella.hub`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tessella.codecs.container import PROFILE_RAW, parse_header
from tessella.codecs.container_errors import UnknownModelError
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.token_codec import UnpackedTokens, pack, unpack
from tessella.codecs.token_coding import DEFAULT_OPTIONS, PackOptions
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import TokenFileError
from tessella.hub import DEFAULT_MODEL, find, is_hub_id, models, resolve
from tessella.images import Picture, Pixels, atomic_file, from_pixels
from tessella.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def encode(
    picture: Picture | Pixels, *, model: str | Path = DEFAULT_MODEL, keep: int | None = None
) -> Tokens:
    """Turn a picture of any size into tokens with a model that is loaded once.

    Args:
        picture: a path, a PIL image, or uint8 ``(H, W, 3)``.
        model: a shipped name, a folder, or a hub id.
        keep: how many groups (positions, levels) to keep; None for all.

    Raises:
        PictureError: if the picture cannot be read.
        CheckpointError: if there is no such model.
    """
    return codec_of(model).encode(picture, keep=keep)


def decode(tokens: Tokens | str | Path, *, model: str | Path | None = None) -> Tensor:
    """Turn tokens, or a token file, into a picture ``(1, 3, H, W)`` in [-1, 1].

    Large pictures are decoded by tiles.

    Args:
        tokens: one picture's tokens, or the path of their file.
        model: the tokenizer; by default the one that the tokens name.

    Raises:
        TokenFileError: if the file is damaged or its model is not here.
    """
    if not isinstance(tokens, Tokens):
        tokens = read(tokens, model=model)
    codec = _codec_of_tokens(tokens, model)
    return from_pixels(codec.decode(tokens))


def read(
    path: str | Path, *, model: str | Path | None = None, limits: Limits = DEFAULT_LIMITS
) -> Tokens:
    """Read the tokens of a token file.

    A file that ends early gives the tokens that arrived whole, with a warning.

    Args:
        path: the file.
        model: the tokenizer whose prior it needs; by default the one that the file names.
        limits: what to accept.

    Raises:
        TokenFileError: if the file is missing or damaged, or its model is not here.
    """
    found = unpack_file(read_bytes(path), model=model, limits=limits, name=str(path))
    if found.is_truncated:
        message = f"{path} ends early: {found.parts} of {found.all_parts} parts arrived"
        warnings.warn(message, stacklevel=2)
    return found.tokens


def write(
    path: str | Path,
    tokens: Tokens,
    *,
    model: str | Path | None = None,
    options: PackOptions = DEFAULT_OPTIONS,
) -> int:
    """Write one picture's tokens to a token file, complete or not at all.

    Args:
        path: where to write; an existing file is replaced.
        tokens: a batch of one.
        model: the tokenizer whose prior is used; by default the one that the tokens name.
        options: how to write; with ``PackOptions(profile=0)`` no model is needed.

    Returns:
        The size of the file in bytes.

    Raises:
        TokenFileError: if the tokens' model is not here, or the file cannot be written.
        ShapeError: if the tokens are not one picture.
    """
    if options.profile == PROFILE_RAW and model is None:
        data = pack(tokens, None, options)
    else:
        data = _codec_of_tokens(tokens, model).pack(tokens, options)
    try:
        with atomic_file(path) as stream:
            stream.write(data)
    except OSError as error:
        raise TokenFileError(f"{path} cannot be written: {error.strerror}") from error
    return len(data)


def unpack_file(
    data: bytes,
    *,
    model: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    name: str = "the file",
) -> UnpackedTokens:
    """Read tokens from the bytes of a token file, with its model where it needs one.

    Raises:
        TokenFileError: if the file is damaged or its model is not here.
    """
    with named_errors(name):
        header = parse_header(data, limits=limits)
        is_spelt_out = header.layout is not None and bool(header.layout.levels)
        stands_alone = header.profile == PROFILE_RAW and is_spelt_out
        if model is None and stands_alone and find(header.space_id) is None:
            return unpack(data, limits=limits)
        return codec_for(header.space_id, model).unpack(data, limits=limits)


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Put the name of a file before the message of a :class:`TokenFileError`."""
    try:
        yield
    except TokenFileError as error:
        raise type(error)(f"{name}: {error}") from error


def read_bytes(path: str | Path) -> bytes:
    """Read a whole token file.

    Raises:
        TokenFileError: if it is missing or unreadable.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise TokenFileError(f"{path} does not exist; expected a token file") from error
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from error


def codec_of(model: str | Path, *, device: str = "cpu") -> TokenizerCodec:
    """Load a model once, and again only when its files have changed.

    Raises:
        CheckpointError: if there is no such model.
    """
    folder = resolve(model)
    newest = max((entry.stat().st_mtime_ns for entry in folder.iterdir()), default=0)
    is_fetched = is_hub_id(str(model)) and not Path(model).is_dir()  # its folder is a hash
    return _loaded(folder, device, newest, str(model) if is_fetched else None)


@lru_cache(maxsize=4)
def _loaded(folder: Path, device: str, _newest: int, name: str | None) -> TokenizerCodec:
    return TokenizerCodec.from_model(folder, device=device, name=name)


def _codec_of_tokens(tokens: Tokens, model: str | Path | None) -> TokenizerCodec:
    return codec_for(bytes.fromhex(tokens.layout.tokenizer_id), model)


def codec_for(
    space_id: bytes, model: str | Path | None = None, *, device: str = "cpu"
) -> TokenizerCodec:
    """Load the model of a token space, or the one that is named instead.

    Args:
        space_id: identity of the token space or its first bytes.
        model: a name, folder or hub id; None to search by identity.
        device: where to put the model.

    Raises:
        TokenFileError: if no model of that token space is here.
    """
    if model is not None:
        return codec_of(model, device=device)
    record = find(space_id) if any(space_id) else None
    if record is None:
        known = ", ".join(record.name for record in models()) or "none"
        raise UnknownModelError(
            f"the model of token space {space_id[:8].hex() or '(unnamed)'} is not here (known: "
            f"{known}); give its folder as the model, or put it on TESSELLA_MODELS"
        )
    return codec_of(record.folder, device=device)


__all__ = [
    "codec_for",
    "codec_of",
    "decode",
    "encode",
    "named_errors",
    "read",
    "read_bytes",
    "unpack_file",
    "write",
]
