"""One scheduler of Syne Tune at a time, spoken to in lines of JSON. Runs in .venv-syne.

{"new": "ASHA", "space", "seed", "points", "grace", "factor", "units"} -> true
{"ask": trial} -> its config
{"report": trial, "at": units, "loss"} -> whether it goes on
"""

from __future__ import annotations

import datetime
import json
import logging
import random
import sys
import warnings
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, uniform
from syne_tune.optimizer.baselines import ASHA, ASHACQR, BORE


class Served:
    """A scheduler, called as Syne Tune's tuner calls it."""

    def __init__(self, message: dict[str, Any]) -> None:
        random.seed(message["seed"])  # it draws from the global generators as well
        np.random.seed(message["seed"])
        space = {
            key: uniform(0.0, 1.0) if values is None else choice(values)
            for key, values in message["space"].items()
        }
        points = message["points"] or None
        self.units, self.single = message["units"], message["new"] == "BORE"
        keys = {"metric": "loss", "random_seed": message["seed"], "points_to_evaluate": points}
        if not self.single:
            keys |= {"time_attr": "units", "max_t": self.units, "grace_period": message["grace"]}
            keys |= {"reduction_factor": message["factor"]}
        kinds = {"ASHA": ASHA, "ASHACQR": ASHACQR, "BORE": BORE}
        self.scheduler = kinds[message["new"]](space, **keys)
        self.trials: dict[int, Trial] = {}

    def ask(self, number: int) -> dict[str, Any]:
        config = self.scheduler.suggest().config
        trial = Trial(number, config, datetime.datetime(2026, 1, 1))
        self.trials[number] = trial
        self.scheduler.on_trial_add(trial)
        return {key: getattr(value, "item", lambda v=value: v)() for key, value in config.items()}

    def report(self, number: int, units: int, loss: float) -> bool:
        trial, result = self.trials[number], {"units": units, "loss": loss}
        decision = self.scheduler.on_trial_result(trial, result)
        if units >= self.units:
            self.scheduler.on_trial_complete(trial, result)
        return decision == "CONTINUE" and units < self.units


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    served = None
    for line in sys.stdin:
        message, answer = json.loads(line), True
        if "new" in message:
            served = Served(message)
        elif "ask" in message:
            answer = served.ask(message["ask"])
        else:
            answer = served.report(message["report"], message["at"], message["loss"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
