"""What tokenizers and generators share: a config, a device, and a folder to be saved in."""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from tessella.tokenizers.saved import (
    WEIGHTS_NAME,
    Kind,
    load_weights,
    read_config,
    write_model,
)

Self = TypeVar("Self", bound="SavedModel")


class SavedModel(nn.Module, PyTorchModelHubMixin, ABC):
    """A model with a config dataclass, saved as ``config.json`` and ``model.safetensors``.

    Args:
        config: the family's config dataclass.
    """

    #: what ``config.json`` calls such models
    kind: ClassVar[Kind]
    family: ClassVar[str] = ""
    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(save_directory, self.family, self.config, self.state_dict(), kind=self.kind)

    @classmethod
    def _from_pretrained(
        cls: type[Self],
        *,
        model_id: str,
        map_location: str = "cpu",
        **kwargs: Any,
    ) -> Self:
        folder = Path(model_id)
        if not folder.is_dir():
            from tessella.hub import download

            folder = download(model_id, kwargs.get("revision"), kwargs.get("local_files_only"))
        model = cls(read_config(folder, cls.family, cls.config_class, kind=cls.kind))
        load_weights(model, folder / WEIGHTS_NAME)
        # the layout of the pictures that encode() hands on; other weights would be turned each time
        model.to(map_location, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()


__all__ = ["SavedModel"]
