"""The machines of a cluster over ssh, as people list them in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from search.errors import BadInput
from trainable.base.reading import read
from trainable.base.shelf import Frozen, Listed

# all of these become part of a shell script, so they hold nothing that a shell reads otherwise
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$")]
User = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/~-]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Value = Annotated[str, StringConstraints(pattern=r"^[^'\"\\$`\n\r]*$")]
RESERVED = ("RAY_", "PATH", "HOME")  # the cluster's own to set


class Machine(Frozen):
    """One host: the address that the others reach it at, and what it lends to the cluster."""

    address: Address
    cpus: int | None = Field(None, ge=0)  # null: all that Ray finds; the head lends none
    gpus: int | None = Field(None, ge=0)


def _machine(given: Any) -> Any:
    return {"address": given} if isinstance(given, str) else given


OneMachine = Annotated[Machine, BeforeValidator(_machine)]


class Inventory(Frozen):
    """A head, which runs no trials, and the workers."""

    head: OneMachine
    workers: Listed[OneMachine]
    user: User | None = None  # to log in as; null: as ssh is configured to
    python: File  # on every host: of the environment in which diffsweep's dependencies are
    ssh_config: File | None = None  # null: ssh's own
    port: int = Field(6379, ge=1, le=65535)  # of the head, for the workers
    dashboard_port: int = Field(8265, ge=1, le=65535)  # of the head, for people
    environment: dict[Variable, Value] = Field({})  # of searches: MLFLOW_TRACKING_URI, AWS_*

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (self.head, *self.workers)

    @property
    def url(self) -> str:
        return f"http://{self.head.address}:{self.dashboard_port}"


def load_inventory(path: Path) -> Inventory:
    """Read and check an inventory.

    Raises:
        BadInput: every fault of it, one line each.
    """
    document = read(path)
    try:
        inventory = Inventory.model_validate(document.data)
    except ValidationError as error:
        raise document.explain(error, Inventory) from error
    faults = [
        document.fault(("environment", name), "is the cluster's own to set")
        for name in inventory.environment
        if name.startswith(RESERVED)
    ]
    if not inventory.workers:
        faults.append(document.fault(("workers",), "needs at least 1: the head runs no trials"))
    addresses = [machine.address for machine in inventory.machines]
    faults += [
        document.fault(("workers",), f"{address} is listed twice")
        for address in sorted({a for a in addresses if addresses.count(a) > 1})
    ]
    if faults:
        raise BadInput(*faults)
    return inventory
