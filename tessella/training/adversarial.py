"""A patch discriminator and its losses.

PatchGAN (arXiv 1611.07004) judges overlapping patches; hinge loss and the weight that adapts to the
reconstruction loss are VQGAN's (arXiv 2012.09841), LeCam regularization arXiv 2104.03310::

    hinge:          L_D = mean relu(1 - D(x)) / 2 + mean relu(1 + D(y)) / 2   L_G = -mean D(y)
    non-saturating: L_D = softplus(-m(x)) + softplus(m(y))                    L_G = softplus(-m(y))

x images, y reconstructions, m a picture's mean logit.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessella.tokenizers.quantizers.distributed import all_sum, world_size
from tessella.training.config import AdversarialSection

_LECAM_DECAY = 0.999
_MOST_WIDENING = 8
_LARGEST_WEIGHT = 1e4


class PatchDiscriminator(nn.Module):
    """Strided convolutions to one logit a patch: ``(B, 3, H, W)`` to ``(B, 1, h, w)``.

    Parameter names are those of published PatchGAN checkpoints.

    Args:
        channels: width of the first layer; doubles up to eightfold.
        layers: strided layers; three see patches of 70 pixels.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**i, _MOST_WIDENING) for i in range(layers + 1)]
        modules: list[nn.Module] = [_conv(3, channels, stride=2, bias=True), nn.LeakyReLU(0.2)]
        for i, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            modules += [
                _conv(before, after, stride=2 if i < layers else 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*modules, _conv(widths[-1], 1, stride=1, bias=True))
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every patch; large for real."""
        logits: Tensor = self.main(images)
        return logits


class LeCam(nn.Module):
    """Keeps logits near the running mean of the other side's, so that neither side runs away."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    real_mean: Tensor
    fake_mean: Tensor

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Take in the logits, then return the penalty."""
        with torch.no_grad():
            means = all_sum(torch.stack([real.mean(), fake.mean()])) / world_size()
            self.real_mean.lerp_(means[0], 1 - _LECAM_DECAY)
            self.fake_mean.lerp_(means[1], 1 - _LECAM_DECAY)
        return (
            F.relu(real - self.fake_mean).square().mean()
            + F.relu(self.real_mean - fake).square().mean()
        )


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Return the discriminator's loss on logits ``(B, 1, h, w)``."""
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return F.softplus(-_of_picture(real)).mean() + F.softplus(_of_picture(fake)).mean()


def generator_loss(fake: Tensor, kind: str) -> Tensor:
    """Return the generator's loss on logits ``(B, 1, h, w)``."""
    if kind == "hinge":
        return -fake.float().mean()
    return F.softplus(-_of_picture(fake.float())).mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, at: Tensor) -> Tensor:
    """Return the factor that makes both terms' gradients at a tensor equally long.

    VQGAN takes the decoder's last weight; training takes the reconstruction itself, which every
    tokenizer has (as EnCodec's balancer does, arXiv 2210.13438).

    Args:
        reconstruction: scalar loss.
        adversarial: scalar loss.
        at: tensor that both depend on.
    """
    (wanted,) = torch.autograd.grad(reconstruction, at, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, at, retain_graph=True)
    ratio: Tensor = wanted.norm() / (given.norm() + 1e-4)
    return ratio.clamp(0, _LARGEST_WEIGHT).detach()


class Adversary(nn.Module):
    """The discriminator with what its losses remember.

    Args:
        settings: the discriminator's size and losses.
    """

    def __init__(self, settings: AdversarialSection) -> None:
        super().__init__()
        self.settings = settings
        self.discriminator = PatchDiscriminator(settings.channels, settings.layers)
        self.lecam = LeCam()

    def forward(self, images: Tensor, outputs: Tensor) -> Tensor:
        """Return the discriminator's loss; ``outputs`` are detached."""
        real, fake = self.discriminator(images), self.discriminator(outputs.detach())
        loss = discriminator_loss(real, fake, self.settings.kind)
        if self.settings.lecam:
            loss = loss + self.settings.lecam * self.lecam(real.float(), fake.float())
        return loss

    def judge(self, outputs: Tensor) -> Tensor:
        """Return the generator's loss; the discriminator itself gets no gradient from it."""
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        loss = generator_loss(self.discriminator(outputs), self.settings.kind)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        return loss


def _conv(inputs: int, outputs: int, *, stride: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=bias)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _of_picture(logits: Tensor) -> Tensor:
    return logits.flatten(1).mean(dim=1)


__all__ = [
    "Adversary",
    "LeCam",
    "PatchDiscriminator",
    "adaptive_weight",
    "discriminator_loss",
    "generator_loss",
]
