"""The registry of tokenizer families; see :class:`~tessella.families.Families`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessella.families import Families, Preset, RegisteredFamily

if TYPE_CHECKING:
    from tessella.tokenizers.base import Tokenizer

Family = RegisteredFamily["Tokenizer"]

TOKENIZERS: Families[Tokenizer] = Families("tokenizer")

register = TOKENIZERS.register
families = TOKENIZERS.all
family = TOKENIZERS.get
all_presets = TOKENIZERS.presets

__all__ = ["TOKENIZERS", "Family", "Preset", "all_presets", "families", "family", "register"]
