"""The optimizer shelf: every optimizer by its name, and the user's own by an import string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Discriminator

from trainable.base.shelf import OWN, Own, any_of, by_name, tag
from trainable.optimizers.classical import CLASSICAL
from trainable.optimizers.eight_bit import EIGHT_BIT
from trainable.optimizers.entry import Lr, OptimizerEntry
from trainable.optimizers.recent import RECENT


class OwnOptimizer(Own):
    """An optimizer of the user's own: `Class(params, **knobs)`."""

    constant_lr: ClassVar[bool] = False
    splits: ClassVar[bool] = False
    lr: Lr

    def arguments(self, steps: int) -> dict[str, Any]:
        return self.knobs()


OPTIMIZERS = by_name(*CLASSICAL, *RECENT, *EIGHT_BIT)
if TYPE_CHECKING:
    OptimizerConfig = OptimizerEntry | OwnOptimizer
else:
    OptimizerConfig = Annotated[any_of(OPTIMIZERS, **{OWN: OwnOptimizer}), Discriminator(tag)]
