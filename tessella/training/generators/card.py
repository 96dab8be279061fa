"""The model card of a trained generator."""

from __future__ import annotations

from collections.abc import Mapping

from tessella.generation.base import Generator
from tessella.training.generators.config import GeneratorTrainingConfig


def generator_card(
    model: Generator,
    config: GeneratorTrainingConfig,
    found: Mapping[str, float],
    *,
    count: int,
    seconds: float,
) -> str:
    """Return the card in Markdown: what it is, how it was trained, what was measured."""
    parameters = sum(p.numel() for p in model.parameters())
    sources = "\n".join(f"- {source.rsplit('/', 1)[-1]}" for source in config.data.train_sources)
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(found.items()))
    table = f"| figure | value |\n| --- | --- |\n{figures}" if figures else "Not validated."
    return f"""# A class-conditional generator

A `{model.family}` generator of {parameters:,} parameters with the tokenizer beside it. It writes
pictures of {config.data.size} x {config.data.size} pixels for {model.config.classes} classes.

## Training

{config.trainer.steps:,} steps of {config.data.batch} pictures in {seconds / 3600:.1f} hours, from
{count:,} labelled pictures:

{sources}

The pictures' terms apply to the weights as well.

## Measured on validation pictures

Cross entropy in nats a token, and the share of tokens guessed right, when all coarser scales are
given; "tail" is the last scale.

{table}

## What it can and cannot do

It knows only the classes that it was trained on, at this one size. Look at samples before you rely
on them.
"""


__all__ = ["generator_card"]
