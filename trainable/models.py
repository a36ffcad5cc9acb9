"""The model shelf: the networks that a trial can train."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from trainable.shelf import OWN, Entry, Listed, Own, tag


class UNet(Entry):
    """A residual U-Net with self-attention at its lowest resolution (Ho et al. 2020, app. B)."""

    target: ClassVar[str] = "trainable.unet:UNet"
    type: Literal["unet"] = "unet"
    channels: int = Field(32, ge=8, multiple_of=8)  # of the first level
    # channels of each level in units of `channels`; each level halves the resolution
    multipliers: Annotated[Listed[Annotated[int, Field(ge=1)]], Field(min_length=1)] = (1, 2)
    blocks: int = Field(1, ge=1)  # residual blocks per level
    attention: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)


ModelConfig = Annotated[
    Annotated[UNet, Tag("unet")] | Annotated[Own, Tag(OWN)], Discriminator(tag)
]
