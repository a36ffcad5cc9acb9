"""The optimizer shelf: what each optimizer is called, which knobs it has, and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from trainable.shelf import OWN, Entry, Own, tag

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Lr = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]
Eps = Annotated[float, Field(gt=0)]


class OptimizerEntry(Entry):
    """An optimizer and its knobs, under the names that its paper uses."""

    fixed: ClassVar[dict[str, Any]] = {}  # arguments that are no one's to search
    lr: Lr

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the class at `target`."""
        arguments = {**self.fixed, **self.knobs()}
        if "beta1" in arguments:
            arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
        return arguments


class Adam(OptimizerEntry):
    """Kingma & Ba 2015. Weight decay, if any, is the coupled L2 penalty."""

    target: ClassVar[str] = "torch.optim:Adam"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    type: Literal["adam"] = "adam"
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class AdamW(OptimizerEntry):
    """Loshchilov & Hutter 2019: Adam with decoupled weight decay."""

    target: ClassVar[str] = "torch.optim:AdamW"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    type: Literal["adamw"] = "adamw"
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    eps: Eps = 1e-8
    weight_decay: Decay = 0.01


class SGD(OptimizerEntry):
    """Stochastic gradient descent with (Nesterov) momentum (Sutskever et al. 2013)."""

    target: ClassVar[str] = "torch.optim:SGD"
    fixed: ClassVar[dict[str, Any]] = {"fused": True}
    type: Literal["sgd"] = "sgd"
    momentum: Beta = 0.9
    nesterov: bool = False
    weight_decay: Decay = 0.0


class RMSProp(OptimizerEntry):
    """Tieleman & Hinton 2012: a running mean of squared gradients, and momentum if asked for."""

    target: ClassVar[str] = "torch.optim:RMSprop"
    fixed: ClassVar[dict[str, Any]] = {"foreach": True}
    type: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    momentum: Beta = 0.0
    eps: Eps = 1e-8
    weight_decay: Decay = 0.0


class OwnOptimizer(Own):
    """An optimizer of the user's own: `Class(params, **knobs)`."""

    lr: Lr

    def arguments(self) -> dict[str, Any]:
        return self.knobs()


OptimizerConfig = Annotated[
    Annotated[Adam, Tag("adam")]
    | Annotated[AdamW, Tag("adamw")]
    | Annotated[SGD, Tag("sgd")]
    | Annotated[RMSProp, Tag("rmsprop")]
    | Annotated[OwnOptimizer, Tag(OWN)],
    Discriminator(tag),
]
OPTIMIZERS: dict[str, type[OptimizerEntry]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "rmsprop": RMSProp,
}


def build_optimizer(config: OptimizerEntry | OwnOptimizer, model: nn.Module) -> Optimizer:
    """The optimizer that `config` describes, over the weights of `model` that are trained."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer: Optimizer = config.load()(weights, **config.arguments())
    return optimizer


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Bytes of state that the optimizer keeps beside weights and gradients."""
    tensors = (value for state in optimizer.state.values() for value in state.values())
    return sum(t.nbytes for t in tensors if hasattr(t, "nbytes") and t.ndim > 0)
