"""Published weights that metrics need: where they are looked for, and what is said if they miss.

A file is looked for at the user's path, then in torch's cache (``$TORCH_HOME/hub/checkpoints``),
then in Hugging Face's, then inside an installed package that ships it. It is downloaded only if the
caller allows it; otherwise the error names the file, its source and the place to put it, so that a
run can mark the column and go on.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from tessella.errors import CheckpointError, MissingWeightsError
from tessella.tokenizers.checkpoints.reading import read_checkpoint

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of weights as its authors publish it.

    Args:
        file: its name; the eight digits before the suffix start its SHA-256.
        needed_by: what cannot be computed without it.
        url: where it comes from.
        aliases: other names of the same tensors in torch's cache.
        repository: Hugging Face repository that holds it; empty if none does.
        package: installed package that ships it, and the path inside; empty if none does.
    """

    file: str
    needed_by: str
    url: str
    aliases: tuple[str, ...] = ()
    repository: str = ""
    package: tuple[str, str] | tuple[()] = ()


_TORCHVISION = "https://download.pytorch.org/models/"
_FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"

PUBLISHED: Mapping[str, PublishedFile] = MappingProxyType(
    {
        "inception": PublishedFile(
            _INCEPTION,
            "FID, KID, Inception score, precision and recall",
            _FIDELITY + _INCEPTION,
            aliases=("pt_inception-2015-12-05-6726825d.pth",),
        ),
        "vgg": PublishedFile(
            "vgg16-397923af.pth", "LPIPS (vgg) and DISTS", _TORCHVISION + "vgg16-397923af.pth"
        ),
        "alex": PublishedFile(
            "alexnet-owt-7be5be79.pth", "LPIPS (alex)", _TORCHVISION + "alexnet-owt-7be5be79.pth"
        ),
        "squeeze": PublishedFile(
            "squeezenet1_1-b8a52dc0.pth",
            "LPIPS (squeeze)",
            _TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
        ),
        "dists": PublishedFile(
            "weights.pt",
            "DISTS",
            "https://github.com/dingkeyan93/DISTS (DISTS_pytorch/weights.pt)",
            package=("torchmetrics", "functional/image/dists_models/weights.pt"),
        ),
        "clip": PublishedFile(
            "model.safetensors",
            "CMMD",
            "https://huggingface.co/openai/clip-vit-large-patch14-336",
            repository="openai/clip-vit-large-patch14-336",
        ),
        "parseq": PublishedFile(
            "parseq-56125471.pt",
            "T-ACC and T-NED as published",
            "https://doctr-static.mindee.com/models?id=v0.7.0/parseq-56125471.pt&src=0",
        ),
    }
)


def find_weights(
    name: str, path: str | Path | None = None, *, allow_download: bool = False
) -> Path:
    """Return the file of published weights.

    Args:
        name: a key of ``PUBLISHED``.
        path: the user's file, or a folder that holds it under its published name.
        allow_download: fetch it into torch's cache if it is nowhere else; the hash is checked.

    Raises:
        MissingWeightsError: if it is not found; says which file, from where, and where to put it.
    """
    published = PUBLISHED[name]
    if path is not None:
        given = Path(path).expanduser()
        found = given / published.file if given.is_dir() else given
        if not found.is_file():
            raise MissingWeightsError(_message(name, f"{found} was given, which does not exist"))
        return found
    for candidate in _candidates(published):
        if candidate.is_file():
            return candidate
    if allow_download and published.url.endswith(published.file):
        return _download(name)
    raise MissingWeightsError(_message(name, "it is in no cache"))


def cache_folder() -> Path:
    """Return the folder of torch's cache in which weights are looked for."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or of a ``.pth`` file, without running code of it.

    Raises:
        CheckpointError: if the file is damaged or holds something other than named tensors.
    """
    state = read_checkpoint(path)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict; expected named tensors alone")
    return state


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits: what protocols record of weights."""
    total = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _candidates(published: PublishedFile) -> list[Path]:
    found = []
    if published.repository:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(published.repository, published.file)
        found += [Path(cached)] if isinstance(cached, str) else []
    elif published.package:
        package, inside = published.package
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).parent / inside)
    else:
        found += [cache_folder() / file for file in (published.file, *published.aliases)]
    return found


def _download(name: str) -> Path:
    published = PUBLISHED[name]
    target = cache_folder() / published.file
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = target.stem.rsplit("-", 1)[-1]
    try:
        torch.hub.download_url_to_file(published.url, str(target), prefix, progress=False)
    except (OSError, RuntimeError) as error:  # no network; a wrong hash
        raise MissingWeightsError(_message(name, f"its download failed ({error})")) from error
    return target


def _from_home(path: Path) -> str:
    """Write a path as a person would, whose name reports need not show."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if home in path.parents else str(path)


def _message(name: str, reason: str) -> str:
    published = PUBLISHED[name]
    place = (
        f"Hugging Face's cache (repository {published.repository})"
        if published.repository
        else _from_home(cache_folder())
    )
    return (
        f"{published.needed_by} need the weights file {published.file!r}: {reason}. Get it from "
        f"{published.url}, and give its path as weights.{name} or place it in {place}; nothing is "
        "downloaded unless that is allowed"
    )


__all__ = [
    "PUBLISHED",
    "PublishedFile",
    "cache_folder",
    "file_digest",
    "find_weights",
    "load_weights",
]
