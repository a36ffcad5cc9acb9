"""The model shelf: the networks that a trial can train."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, model_validator

from trainable.base.shelf import (
    OWN,
    Entry,
    Frozen,
    ImportString,
    Listed,
    Own,
    any_of,
    by_name,
    load,
    tag,
)

DIFFUSERS = "diffusers"  # the tag of `type: diffusers:<Class>`
WIDTH = "cross_attention_dim"  # its knob for how many numbers each part of a condition has ...
PROJECTIONS = ("encoder_hid_dim", "caption_channels")  # ... unless these project them first


Tried = tuple[dict[str, Any], tuple[int, ...]]  # knobs of a small one, shape of an example


class Model(Entry):
    """A network of ours. It is told how many classes the labels have, and how t is scaled."""

    tried: ClassVar[tuple[Tried, ...]]  # what the contract's test calls it with

    def build(self, shape: tuple[int, ...], classes: int, features: int, time_scale: float) -> Any:
        """The network for examples of this shape; `classes` is 0 for data without labels, and
        `features` for data without conditions.

        Raises:
            ValueError: it does not take examples of this shape.
        """
        told = {"labels": classes, "features": features, "time_scale": time_scale}
        return self.load()(shape, **told, **self.knobs())


class UNet(Model):
    """A residual U-Net with self-attention at its lowest resolution (Ho et al. 2020, app. B)."""

    target: ClassVar[str] = "trainable.models.unet:UNet"
    tried: ClassVar[tuple[Tried, ...]] = (
        ({"channels": 8}, (1, 8, 8)),
        ({"channels": 8, "multipliers": [1], "attention": False}, (3, 5, 7)),
    )
    type: Literal["unet"] = "unet"
    channels: int = Field(32, ge=8, multiple_of=8)  # of the first level
    # channels of each level in units of `channels`; each level halves the resolution
    multipliers: Annotated[Listed[Annotated[int, Field(ge=1)]], Field(min_length=1)] = (1, 2)
    blocks: int = Field(1, ge=1)  # residual blocks per level
    attention: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)


class DiT(Model):
    """A diffusion transformer (Peebles & Xie 2023) for images, or for trajectories."""

    target: ClassVar[str] = "trainable.models.dit:DiT"
    tried: ClassVar[tuple[Tried, ...]] = (
        ({"width": 32, "depth": 2}, (3, 8, 4)),
        ({"width": 32, "depth": 1, "patch": 4}, (2, 16)),
    )
    type: Literal["dit"] = "dit"
    patch: int = Field(2, ge=1)  # pixels of a token's side, or times of a token
    width: int = Field(128, ge=8, multiple_of=4)
    depth: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class MLP(Model):
    """Residual layers over all numbers of an example at once: for points and rows of tables."""

    target: ClassVar[str] = "trainable.models.mlp:MLP"
    tried: ClassVar[tuple[Tried, ...]] = (
        ({"width": 32}, (2,)),
        ({"width": 32, "depth": 1}, (2, 16)),
        ({"width": 32, "dropout": 0.1}, (1, 4, 4)),
    )
    type: Literal["mlp"] = "mlp"
    width: int = Field(128, ge=8, multiple_of=2)
    depth: int = Field(3, ge=1)  # residual blocks
    dropout: float = Field(0.0, ge=0, lt=1)


class OwnModel(Own):
    """A model of the user's own: `attr(shape, **knobs)`, called model(x, t) or (x, t, labels)."""

    def build(self, shape: tuple[int, ...], classes: int, features: int, time_scale: float) -> Any:
        return self.load()(shape, **self.knobs())


class Diffusers(Own):
    """A model class of the diffusers library, `type: diffusers:UNet2DModel`, with its knobs."""

    type: ImportString

    def load(self) -> Any:
        if find_spec(DIFFUSERS) is None:
            raise ValueError(
                f"{self.type} needs the package diffusers; pip install 'diffsweep[diffusers]'"
            )
        return super().load()

    def told(self, width: int) -> Diffusers:
        """With the numbers of a condition's last axis, where the class takes them and lacks them.

        Raises:
            ValueError: the spec gives it another number of them.
        """
        knobs = self.knobs()
        if any(key in knobs for key in PROJECTIONS):
            return self  # what is attended to has another width
        if (given := knobs.get(WIDTH, width)) != width:
            raise ValueError(f"{WIDTH} is {given}, a condition's last axis has {width}")
        takes = WIDTH in inspect.signature(self.load().__init__).parameters
        return self.model_copy(update={WIDTH: width}) if takes else self

    def build(self, shape: tuple[int, ...], classes: int, features: int, time_scale: float) -> Any:
        adapter, knobs = load("trainable.models.adapter:DiffusersModel"), self.knobs()
        width = next((knobs[key] for key in (*PROJECTIONS, WIDTH) if key in knobs), features)
        told = {"labels": classes, "width": width if features else 0, "time_scale": time_scale}
        return adapter(self.load(), shape, **told, knobs=knobs)


class Adapters(Frozen):
    """Low-rank updates of linear and convolution layers, trained in place of all weights."""

    rank: int = Field(8, ge=1)
    alpha: float | None = Field(None, gt=0)  # the update counts alpha / rank times; null: rank
    patterns: Annotated[Listed[str], Field(min_length=1)] = ("*",)  # of layers' names


def model_tag(value: Any) -> str | None:
    """As `tag`, with the classes of diffusers apart from other code."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return DIFFUSERS if str(name).startswith(f"{DIFFUSERS}:") else tag(value)


MODELS = by_name(UNet, DiT, MLP)
if TYPE_CHECKING:
    ModelConfig = Model | Diffusers | OwnModel
else:
    _others = {DIFFUSERS: Diffusers, OWN: OwnModel}
    ModelConfig = Annotated[any_of(MODELS, **_others), Discriminator(model_tag)]
