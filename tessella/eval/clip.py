"""CLIP's image embeddings, which CMMD compares sets by (arXiv 2401.09603)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from tessella.errors import CheckpointError, MissingDependencyError
from tessella.eval.weights import find_weights


class ClipFeatures(nn.Module):
    """Frozen embeddings of uint8 pixels ``(B, 3, H, W)``; float32, not normalised.

    Args:
        weights: ``model.safetensors`` with its ``config.json`` beside it; Hugging Face's cache if
            None. CMMD's published numbers are those of ViT-L/14 at 336 pixels.

    Raises:
        MissingWeightsError: if the weights are not found.
        CheckpointError: if the file has no configuration beside it, or is of another network.
        MissingDependencyError: if transformers is not installed.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        path = find_weights("clip", weights)
        if not (path.parent / "config.json").is_file():
            raise CheckpointError(
                f"{path} has no config.json beside it; expected the folder of a CLIP model"
            )
        try:
            transformers: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise MissingDependencyError(
                "CMMD needs CLIP from transformers: pip install tessella[prompts]"
            ) from error
        try:
            self.network: Any = transformers.CLIPVisionModelWithProjection.from_pretrained(
                path.parent, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be read as a CLIP model: {error}") from error
        self.side: int = self.network.config.image_size
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding of each picture, ``(B, D)``."""
        from tessella.eval.metrics.cmmd import clip_input

        arrays = pixels.permute(0, 2, 3, 1).cpu().numpy()
        images = clip_input([Image.fromarray(array) for array in arrays], self.side)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            embeddings: Tensor = self.network(pixel_values=images.to(device)).image_embeds
        return embeddings


__all__ = ["ClipFeatures"]
