"""The optimizer shelf: what each optimizer is called, which knobs it has, and how it is built.

Weights are of three kinds: hidden matrices (of linear layers; convolutions, flattened from their
output channel), the edges (the layer that takes the example, the one that answers, embeddings),
and vectors (biases, norms). Where an entry does not say otherwise, it treats all weights alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from trainable.shelf import OWN, Entry, Own, tag

if TYPE_CHECKING:
    from torch import Tensor

Lr = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
InnerBeta = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]
Eps = Annotated[float, Field(gt=0)]
Bytes = float | None  # per weight, measured on the default U-Net for digits; None: not measured


class OptimizerEntry(Entry):
    """An optimizer and its knobs, under the names that its paper uses."""

    fixed: ClassVar[dict[str, Any]] = {}  # arguments that are no one's to search
    constant_lr: ClassVar[bool] = False  # the method itself replaces a decaying lr_schedule
    splits: ClassVar[bool] = False  # treats hidden matrices in a way of their own
    state_bytes: ClassVar[Bytes]  # that it keeps beside weights and gradients
    lr: Lr

    def arguments(self, steps: int) -> dict[str, Any]:
        """Keyword arguments of the class at `target`, for a budget of `steps`."""
        arguments = {**self.fixed, **self.knobs()}
        betas = [arguments.pop(name) for name in BETAS if name in arguments]
        return arguments | ({"betas": tuple(betas)} if betas else {})

    def groups(self, matrices: Sequence[Tensor], rest: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Parameter groups, for an entry that `splits`."""
        return [{"params": [*matrices, *rest]}]


BETAS = ("beta1", "beta2", "beta3")


class AdamLike(OptimizerEntry):
    """The knobs that Adam and its relatives share."""

    beta1: Beta = 0.9
    beta2: Beta = 0.999
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class Adam(AdamLike):
    """Kingma & Ba 2015. Weight decay, if any, is the coupled L2 penalty."""

    target: ClassVar[str] = "torch.optim:Adam"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 8.0
    type: Literal["adam"] = "adam"


class AdamW(AdamLike):
    """Loshchilov & Hutter 2019: Adam with decoupled weight decay."""

    target: ClassVar[str] = "torch.optim:AdamW"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 8.0
    type: Literal["adamw"] = "adamw"
    weight_decay: Decay = 0.01


class SGD(OptimizerEntry):
    """Stochastic gradient descent with (Nesterov) momentum (Sutskever et al. 2013)."""

    target: ClassVar[str] = "torch.optim:SGD"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    state_bytes: ClassVar[Bytes] = 4.0
    type: Literal["sgd"] = "sgd"
    momentum: Beta = 0.9
    nesterov: bool = False
    weight_decay: Decay = 0.0


class RMSProp(OptimizerEntry):
    """Tieleman & Hinton 2012: a running mean of squared gradients, and momentum if asked for."""

    target: ClassVar[str] = "torch.optim:RMSprop"
    fixed: ClassVar[dict[str, Any]] = {"foreach": True}
    state_bytes: ClassVar[Bytes] = 4.0
    type: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    momentum: Beta = 0.0
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class NAdam(AdamLike):
    """Dozat 2016: Adam with Nesterov momentum; weight decay is decoupled (NAdamW)."""

    target: ClassVar[str] = "torch.optim:NAdam"
    fixed: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True, "foreach": True}
    state_bytes: ClassVar[Bytes] = 8.0
    type: Literal["nadam"] = "nadam"


class RAdam(AdamLike):
    """Liu et al. 2020: Adam that waits for its variance to settle; weight decay is decoupled."""

    target: ClassVar[str] = "torch.optim:RAdam"
    fixed: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True, "foreach": True}
    state_bytes: ClassVar[Bytes] = 8.0
    type: Literal["radam"] = "radam"


class Adafactor(OptimizerEntry):
    """Shazeer & Stern 2018: no momentum, and a factored second moment; vectors keep a whole one.

    `lr` is relative to the size of each weight tensor, and falls as 1/sqrt(step) once that is
    less. Convolutions are flattened to matrices, edges treated as the rest.
    """

    target: ClassVar[str] = "trainable.adafactor:MatrixAdafactor"
    fixed: ClassVar[dict[str, Any]] = {"foreach": True}
    state_bytes: ClassVar[Bytes] = 0.115
    type: Literal["adafactor"] = "adafactor"
    weight_decay: Decay = 0.0


class Muon(OptimizerEntry):
    """Jordan et al. 2024: hidden matrices by orthogonalized momentum, the rest by AdamW.

    The update of a matrix is scaled to the size of AdamW's (Liu et al. 2025, section 2.2), so
    that one lr serves both. Edges and vectors have no weight decay.
    """

    target: ClassVar[str] = "pytorch_optimizer:Muon"
    fixed: ClassVar[dict[str, Any]] = {"use_adjusted_lr": True, "adamw_betas": (0.9, 0.95)}
    splits: ClassVar[bool] = True
    state_bytes: ClassVar[Bytes] = 4.1
    type: Literal["muon"] = "muon"
    momentum: Beta = 0.95
    nesterov: bool = True
    ns_steps: int = Field(5, ge=1)  # of Newton and Schulz's iteration
    weight_decay: Decay = 0.0

    def groups(self, matrices: Sequence[Tensor], rest: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [
            {"params": weights, "use_muon": use_muon, "lr": self.lr}
            for weights, use_muon in ((matrices, True), (rest, False))
            if weights
        ]


class SOAP(AdamLike):
    """Vyas et al. 2025: Adam in the eigenbasis of Shampoo's preconditioner, of each dimension.

    Vectors are treated by Adam. The first step only measures.
    """

    target: ClassVar[str] = "pytorch_optimizer:SOAP"
    state_bytes: ClassVar[Bytes] = 13.7
    type: Literal["soap"] = "soap"
    beta1: Beta = 0.95
    beta2: Beta = 0.95
    precondition_frequency: int = Field(10, ge=1)  # steps between updates of the eigenbasis


class Lion(OptimizerEntry):
    """Chen et al. 2023: the sign of an interpolated momentum; weight decay is decoupled."""

    target: ClassVar[str] = "pytorch_optimizer:Lion"
    state_bytes: ClassVar[Bytes] = 4.0
    type: Literal["lion"] = "lion"
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    weight_decay: Decay = 0.0


class ScheduleFreeAdamW(AdamLike):
    """Defazio et al. 2024: an average of the iterates takes the place of a decaying lr.

    What is validated, averaged by the EMAs and exported is that average, not the weights that the
    gradients are taken at.
    """

    target: ClassVar[str] = "trainable.schedule_free:ScheduleFree"
    constant_lr: ClassVar[bool] = True
    state_bytes: ClassVar[Bytes] = 8.0
    type: Literal["schedulefree_adamw"] = "schedulefree_adamw"
    beta1: InnerBeta = 0.9


class Prodigy(AdamLike):
    """Mishchenko & Defazio 2024: Adam that estimates its own step size; lr is a factor about 1.

    The estimate starts tiny and takes a few hundred steps to arrive.
    """

    target: ClassVar[str] = "pytorch_optimizer:Prodigy"
    fixed: ClassVar[dict[str, Any]] = {
        "bias_correction": True,
        "safeguard_warmup": True,
        "foreach": True,
    }
    state_bytes: ClassVar[Bytes] = 16.0
    type: Literal["prodigy"] = "prodigy"


class AdEMAMix(AdamLike):
    """Pagliardini et al. 2025: Adam with a second, slow momentum; weight decay is decoupled.

    The slow momentum's weight and decay are warmed up over the whole budget, as in the paper.
    """

    target: ClassVar[str] = "pytorch_optimizer:AdEMAMix"
    fixed: ClassVar[dict[str, Any]] = {"weight_decouple": True}
    state_bytes: ClassVar[Bytes] = 12.0
    type: Literal["ademamix"] = "ademamix"
    beta1: InnerBeta = 0.9
    beta3: InnerBeta = 0.9999  # of the slow momentum
    alpha: float = Field(8.0, ge=0)  # its weight

    def arguments(self, steps: int) -> dict[str, Any]:
        return super().arguments(steps) | {"t_alpha_beta3": float(steps)}


class EightBit(OptimizerEntry):
    """State in 8 bits, in blocks (Dettmers et al. 2022); tensors under 4096 weights keep 32.

    Needs bitsandbytes and CUDA, so the bytes could not be measured here.
    """

    state_bytes: ClassVar[Bytes] = None


class Adam8bit(EightBit, AdamLike):
    """Adam with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:Adam8bit"
    type: Literal["adam8bit"] = "adam8bit"


class AdamW8bit(EightBit, AdamLike):
    """AdamW with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:AdamW8bit"
    type: Literal["adamw8bit"] = "adamw8bit"
    weight_decay: Decay = 0.01


class Lion8bit(EightBit):
    """Lion with its state in 8 bits."""

    target: ClassVar[str] = "bitsandbytes.optim:Lion8bit"
    type: Literal["lion8bit"] = "lion8bit"
    beta1: Beta = 0.9
    beta2: Beta = 0.99
    weight_decay: Decay = 0.0


class OwnOptimizer(Own):
    """An optimizer of the user's own: `Class(params, **knobs)`."""

    constant_lr: ClassVar[bool] = False
    splits: ClassVar[bool] = False
    lr: Lr

    def arguments(self, steps: int) -> dict[str, Any]:
        return self.knobs()


_classical = (Adam, AdamW, SGD, RMSProp, NAdam, RAdam, Adafactor)
_recent = (Muon, SOAP, Lion, ScheduleFreeAdamW, Prodigy, AdEMAMix)
_eight_bit = (Adam8bit, AdamW8bit, Lion8bit)
OPTIMIZERS: dict[str, type[OptimizerEntry]] = {
    entry.model_fields["type"].default: entry for entry in (*_classical, *_recent, *_eight_bit)
}
if TYPE_CHECKING:
    OptimizerConfig = OptimizerEntry | OwnOptimizer
else:
    _tagged = [Annotated[entry, Tag(name)] for name, entry in OPTIMIZERS.items()]
    OptimizerConfig = Annotated[
        reduce(or_, _tagged, Annotated[OwnOptimizer, Tag(OWN)]), Discriminator(tag)
    ]
