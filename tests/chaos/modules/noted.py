"""Optimizers that note every step that they take, in a file for each process in CHAOS_LEDGER.

So it can be seen which steps were taken twice. A note is [training, life, what, step, time]. A
training is told by its learning rate and the sum of the weights that it begins with; a life is one
process at work on it.
"""

import json
import os
import time
import uuid

import torch

PROCESS = uuid.uuid4().hex
PACE = float(os.environ.get("CHAOS_PACE", "0"))  # seconds that a step takes at least


class Noted:
    def __init__(self, params, **knobs):
        super().__init__(params, **knobs)
        weights = [weight for group in self.param_groups for weight in group["params"]]
        begun = sum(float(weight.detach().double().sum()) for weight in weights)
        self.training, self.life = f"{knobs['lr']!r} {begun:.12g}", uuid.uuid4().hex
        self.taken = 0

    def step(self, closure=None):
        time.sleep(PACE)
        super().step(closure)
        self.taken += 1
        self.note("step")

    def state_dict(self):
        self.note("saved")  # is about to be
        return {**super().state_dict(), "taken": self.taken}

    def load_state_dict(self, state):
        self.taken = state.pop("taken")
        super().load_state_dict(state)
        self.note("restored")

    def note(self, what):
        line = json.dumps([self.training, self.life, what, self.taken, time.time()]) + "\n"
        with open(os.path.join(os.environ["CHAOS_LEDGER"], PROCESS), "a") as file:
            file.write(line)


class Sgd(Noted, torch.optim.SGD):
    pass


class Adam(Noted, torch.optim.Adam):
    pass
