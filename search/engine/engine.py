"""Decides which trial comes next and whether one goes on, and writes each decision down first.

It knows neither Ray nor processes, so a replay runs the same decisions. All it decides, it decides
from the book: built on a history that already has events, it stands where their writer stood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from search.engine.analysis import best_paused
from search.engine.arms import Arms
from search.engine.budget import asked, out_of_time, reached
from search.engine.confirm import AT_WORK, ask_event, owed
from search.errors import SearchFailed, StorageAway
from search.history.book import ENDED, Trial
from search.history.log import History
from search.spec.space import baselines
from search.spec.spec import SearchSpec

# why no new trials of the search come, so that only winners are trained from here
NO_MORE = ("trials", "wall_clock", "gpu_hours", "confirm")


@dataclass
class Engine:
    """The decisions of one search."""

    spec: SearchSpec
    history: History
    stopping: str | None = None  # why no new trials are proposed; "confirm": only confirm ones
    error: Exception | None = None  # the search can't go on
    active: set[int] = field(default_factory=set)  # trials that a process works on, or will
    restarting: set[int] = field(default_factory=set)  # of them, those whose process was lost

    def __post_init__(self) -> None:
        spec, self.book = self.spec, self.history.book
        self.metric, self.mode = spec.aims[0]
        self.arms = Arms(spec, self.book)
        self.baselines = baselines(spec.space, spec.trial, spec.baselines)[: spec.budget.trials]
        self.cut = [
            trial.number
            for trial in self.book.trials.values()
            if (trial.state in ("pending", "running") or trial.again)
            and (self.stopping != "confirm" or trial.stage == "confirm")
        ]

    def next(self) -> Trial | None:
        """The trial to run next, written down as such; None when there is none to begin now.

        First what was cut off or added by the user, then what has earned a promotion, then
        something new; at last, once nothing new comes, the best of each optimizer to its end, and
        the winners again.
        """
        self._look_at_the_clock()
        trial = (
            self._cut_off()
            or self._promoted()
            or self._proposed()
            or self._finisher()
            or self._confirmation()
        )
        if trial is not None:
            self.active.add(trial.number)
        return trial

    def begin(self, number: int) -> bool:
        """A trial's process has started, perhaps again. False: it was ended meanwhile."""
        self.restarting.discard(number)
        if number in self.active:
            self.history.write("begin", trial=number)
        return number in self.active

    def lose(self, number: int) -> None:
        """A trial's process is gone, and Tune starts it again."""
        self.restarting.add(number)

    def report(self, number: int, metrics: dict[str, Any]) -> bool:
        """Take in a report and say whether the trial goes on.

        A report that is known already, from before a restart, is not recorded again; the decision
        that belongs to it is made as it would have been.

        Raises:
            SearchFailed: the report lacks what decisions need.
        """
        trial = self.book.trials[number]
        if missing := [key for key in (self.metric, "samples", "step") if key not in metrics]:
            raise SearchFailed(
                f"trial {number} reported no {', '.join(missing)}, only {', '.join(metrics)}"
            )
        if number not in self.active:  # ended meanwhile, from outside
            return False
        if metrics["samples"] < trial.samples:
            return True
        if metrics["samples"] > trial.samples:
            finite = {k: v for k, v in metrics.items() if not _is_bad(v)}
            self.history.write("report", trial=number, metrics=finite)
        return self._judge(trial, metrics)

    def end(self, number: int, state: str, why: str | None, again: bool = False) -> bool:
        """Write how a trial ended, for now or for good. False: it does not go on."""
        self.active.discard(number)
        self.history.write("end", trial=number, state=state, why=why, again=again)
        return False

    def add(self, chosen: dict[str, Any]) -> None:
        """A config that the user wants tried: outside the budget of trials, and in full."""
        trial = self._write(len(self.book.trials), chosen, full=True, added=True)
        self.cut.append(trial.number)

    def kill(self, number: int) -> bool:
        """End one trial for good because the user wants it; whether it had to be ended."""
        trial = self.book.trials.get(number)
        if trial is None or (trial.state in ENDED and not trial.again):
            return False
        self.cut = [other for other in self.cut if other != number]
        self.end(number, "cancelled", "killed by the user")
        return True

    def hung(self) -> list[int]:
        """Running trials without a report for longer than the spec allows."""
        limit, now = self.spec.trial_timeout, self.history.clock() * 1000
        if limit is None:
            return []
        at_work = (self.book.trials[n] for n in self.active - self.restarting)
        return [
            trial.number
            for trial in at_work
            if trial.began is not None
            and now - max(trial.began, trial.reported or 0) > limit * 1000
        ]

    def finish(self) -> None:
        """Write how the search ended. Trials still at work were cut off, and go on at resume."""
        cut = [n for n, t in self.book.trials.items() if t.state in ("pending", "running")]
        state = "stopped" if self.stopping in ("stopped", "confirm") else "complete"
        if cut:
            state = "interrupted"
        if self.stopping == "cancelled":
            state = "cancelled"
        if self.error is not None:
            state = "interrupted" if isinstance(self.error, StorageAway) else "failed"
        for number in cut:
            cancelled = state == "cancelled"
            self.end(number, "cancelled" if cancelled else "paused", f"search {state}", again=True)
        if state == "complete" and self.stopping == "trials":
            for trial in self.paused():
                self.end(trial.number, "pruned", "others were better at its rung")
        self.history.write("finish", state=state, why=str(self.error or self.stopping or ""))

    def paused(self) -> list[Trial]:
        """Trials that a rung holds back."""
        return [t for t in self.book.stage("search") if t.state == "paused" and not t.again]

    def rung_levels(self, trial: Trial) -> list[int]:
        """Samples at which this trial has to report."""
        searching = trial.stage == "search"
        return list(self.arms.of(trial).scheduler.levels(trial)) if searching else []

    def _judge(self, trial: Trial, metrics: dict[str, Any]) -> bool:
        number = trial.number
        if metrics.get("diverged_at") is not None or _is_bad(metrics[self.metric]):
            known = metrics.get("diverged_at")
            where = metrics["step"] if known is None else known
            return self.end(number, "diverged", f"not finite at step {where}")
        if trial.samples >= trial.full_samples:
            return self.end(number, "complete", None)
        arm, verdict = self.arms.of(trial), "go"
        if not trial.full and trial.samples != trial.promoted:
            verdict = arm.scheduler.judge(trial, arm.peers(self.book))
        if verdict == "promote":
            self.history.write("promote", trial=number, full=False)
        if verdict == "pause":
            self.end(number, "paused", f"not among the best at {trial.samples} samples")
            self._prune_hopeless()
            return False
        if verdict == "stop":
            return self.end(number, "pruned", f"worse than the others at {trial.samples} samples")
        spent = self._out_of_time() if trial.stage == "search" else None
        if spent is not None:
            self.stopping = spent
            return self._rest(number)
        return True

    def _look_at_the_clock(self) -> None:
        """End the search when its time is spent; what was cut off before waits for more of it."""
        confirming = self.stopping == "trials" and self.book.stage("confirm")
        if self.stopping not in (None, "trials") or confirming:
            return
        if (spent := self._out_of_time()) is None:
            return
        self.stopping = spent
        mine = [number for number in self.cut if self.book.trials[number].stage == "search"]
        self.cut = [number for number in self.cut if number not in mine]
        for number in mine:
            if not self.book.trials[number].again:
                self._rest(number)

    def _rest(self, number: int) -> bool:
        """Hold a trial back until there is more time. False: it does not go on."""
        why = f"the budget of {self.stopping} was spent"
        return self.end(number, "paused", why, again=True)

    def _cut_off(self) -> Trial | None:
        """A trial that an earlier driver left unfinished, whose checkpoint knows how far it was;
        or one that the user added.
        """
        if not self.cut:
            return None
        return self.book.trials[self.cut.pop(0)]

    def _promoted(self) -> Trial | None:
        """A paused trial that has earned to go on since."""
        if self.stopping not in (None, "trials"):
            return None
        for arm in self.arms.all:
            if (trial := arm.scheduler.promotable(arm.peers(self.book))) is not None:
                self.history.write("promote", trial=trial.number, full=False)
                return trial
        return None

    def _proposed(self) -> Trial | None:
        """A new trial, while the budget lasts: baselines first, then what the samplers propose."""
        self.stopping = self.stopping or self._spent()
        if self.stopping:
            return None
        number, place = len(self.book.trials), asked(self.book)
        if place < len(self.baselines):  # the first is the "before" of every comparison
            return self._write(number, self.baselines[place], baseline=True, full=place == 0)
        if (chosen := self.arms.propose(number)) is None:
            self.stopping = "trials"  # a grid has no more
            return None
        return self._write(number, chosen)

    def _finisher(self) -> Trial | None:
        """The best paused trial of an optimizer that has none that went or goes to the end.

        A default that ran in full by rule does not count: it says nothing of what was found.
        """
        if self.stopping != "trials":
            return None
        for name in self.spec.optimizers:
            mine = (t for t in self.book.stage("search") if t.optimizer == name)
            trials = [t for t in mine if not (t.baseline and t.full and t.state == "complete")]
            if any(t.state in ("complete", "pending", "running") for t in trials):
                continue
            if (trial := best_paused(trials, self.metric, self.mode)) is not None:
                self.history.write("promote", trial=trial.number, full=True)
                return trial
        return None

    def _confirmation(self) -> Trial | None:
        """A confirm trial that is owed, of a winner that no other trial can replace any more."""
        if self.spec.confirm is None or self.stopping not in NO_MORE:
            return None
        for winner, seed in owed(self.book, self.spec.confirm):
            if self._is_settled(winner):
                event = self.history.write("ask", **ask_event(self.book, winner, seed))
                return self.book.trials[event["trial"]]
        return None

    def _is_settled(self, winner: Trial) -> bool:
        """Whether no trial at work competes with a winner, now that no new ones come.

        With `equal`, optimizers don't compete, so the first is confirmed while others still train.
        """
        if self.stopping == "confirm":
            return True
        assert self.spec.confirm is not None
        alone = self.spec.confirm.per == "optimizer"
        peers = self.arms.of(winner).peers(self.book) if alone else self.book.stage("search")
        return not any(t.number in self.active or t.state in AT_WORK for t in peers)

    def _spent(self) -> str | None:
        """The budget that is spent, if one is."""
        return reached(self.spec, self.book, self.history.clock())

    def _out_of_time(self) -> str | None:
        return out_of_time(self.spec, self.book, self.history.clock())

    def _prune_hopeless(self) -> None:
        """End the paused trials that can't come back, so that their checkpoints can go."""
        to_come = max(0, self.spec.budget.trials - asked(self.book))
        for arm in self.arms.all:
            for trial in arm.scheduler.hopeless(arm.peers(self.book), to_come):
                same = [t for t in self.paused() if t.optimizer == trial.optimizer]
                top = best_paused(same, self.metric, self.mode)
                if not trial.again and trial is not top:  # the best of an optimizer may finish
                    self.end(trial.number, "pruned", "others were better at its rung")

    def _write(
        self, number: int, chosen: dict[str, Any], *, baseline: bool = False, **marks: bool
    ) -> Trial:
        """Write down a new trial. Marks: `full`, `added`."""
        config = self.spec.resolve(chosen)
        self.history.write(
            "ask",
            trial=number,
            stage="search",
            chosen=chosen,
            config=config.model_dump(mode="json"),
            baseline=baseline,
            **marks,
        )
        return self.book.trials[number]


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
