"""Decides which trial comes next and whether one goes on, and writes each decision down first.

It knows neither Ray nor processes, so a replay runs the same decisions. All it decides, it decides
from the book: built on a history that already has events, it stands where their writer stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from search.analysis import best_paused
from search.confirm import ask_event, is_settled, owed
from search.errors import SearchFailed
from search.history import ENDED, Book, History, Trial
from search.sampler import Sampler
from search.scheduler import Scheduler, build_scheduler
from search.space import baselines, settings
from search.spec import SearchSpec

DESIGNED = ("grid", "qmc")  # samplers that spread over the space by themselves
QUOTA = 4  # trials that adaptive allocation gives each optimizer before the sampler decides


@dataclass
class Arm:
    """Optimizers that compete for the same trials: all of them, or with `equal` one alone."""

    names: list[str]
    sampler: Sampler
    scheduler: Scheduler


@dataclass
class Engine:
    """The decisions of one search."""

    spec: SearchSpec
    history: History
    stopping: str | None = None  # why no new trials are proposed
    error: Exception | None = None  # the search can't go on
    active: set[int] = field(default_factory=set)  # trials that a process works on, or will

    def __post_init__(self) -> None:
        spec, self.book = self.spec, self.history.book
        self.metric = spec.objective.metric
        equal = spec.allocation == "equal"
        groups = [[name] for name in spec.optimizers] if equal else [spec.optimizers]
        self.arms = [self._arm(names) for names in groups]
        self.baselines = baselines(spec.space, spec.trial, spec.baselines)[: spec.budget.trials]
        self.cut = [
            trial.number
            for trial in self.book.trials.values()
            if trial.state in ("pending", "running") or trial.again
        ]

    def next(self) -> Trial | None:
        """The trial to run next, written down as such; None when there is none to begin now.

        First what was cut off or added by the user, then what has earned a promotion, then
        something new; at last, once nothing new comes, the best of each optimizer to its end, and
        the winners again.
        """
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

    def begin(self, number: int) -> None:
        """A trial's process has started, perhaps again."""
        if self.book.trials[number].state != "running":
            self.history.write("begin", trial=number)

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
        running = (self.book.trials[n] for n in self.active)
        return [
            trial.number
            for trial in running
            if trial.state == "running"
            and now - max(trial.began or now, trial.reported or 0) > limit * 1000
        ]

    def finish(self) -> None:
        """Write how the search ended. Trials still at work were cut off, and go on at resume."""
        cut = [n for n, t in self.book.trials.items() if t.state in ("pending", "running")]
        state = "stopped" if self.stopping == "stopped" else "complete"
        if cut:
            state = "interrupted"
        if self.stopping == "cancelled":
            state = "cancelled"
        if self.error is not None:
            state = "failed"
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
        return list(self._arm_of(trial).scheduler.levels(trial.number)) if searching else []

    def _judge(self, trial: Trial, metrics: dict[str, Any]) -> bool:
        number = trial.number
        if metrics.get("diverged_at") is not None or _is_bad(metrics[self.metric]):
            where = metrics.get("diverged_at") or metrics["step"]
            return self.end(number, "diverged", f"not finite at step {where}")
        if trial.samples >= trial.config["steps"] * trial.config["batch_size"]:
            return self.end(number, "complete", None)
        arm, verdict = self._arm_of(trial), "go"
        if not trial.full and trial.samples != trial.promoted:
            verdict = arm.scheduler.judge(trial, self._peers(arm))
        if verdict == "promote":
            self.history.write("promote", trial=number, full=False)
        if verdict == "pause":
            self.end(number, "paused", f"not among the best at {trial.samples} samples")
            self._prune_hopeless()
            return False
        if verdict == "stop":
            return self.end(number, "pruned", f"worse than the others at {trial.samples} samples")
        reached = self._budget_reached() if trial.stage == "search" else None
        if reached in ("wall_clock", "gpu_hours"):
            self.stopping = reached
            return self.end(number, "paused", f"the budget of {reached} was spent", again=True)
        return True

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
        for arm in self.arms:
            if (trial := arm.scheduler.promotable(self._peers(arm))) is not None:
                self.history.write("promote", trial=trial.number, full=False)
                return trial
        return None

    def _proposed(self) -> Trial | None:
        """A new trial, while the budget lasts: baselines first, then what the samplers propose."""
        self.stopping = self.stopping or self._budget_reached()
        if self.stopping:
            return None
        number = len(self.book.trials)
        if self._asked() < len(self.baselines):
            # the first is the "before" of every comparison
            return self._write(
                number, self.baselines[self._asked()], baseline=True, full=self._asked() == 0
            )
        for arm, optimizer, turn in self._turns():
            if (chosen := self._draw(number, arm, optimizer, turn)) is not None:
                return self._write(number, chosen)
        self.stopping = "trials"  # a grid has no more
        return None

    def _draw(
        self, number: int, arm: Arm, optimizer: str | None, turn: int | None
    ) -> dict[str, Any] | None:
        """Have an arm's sampler propose; None when its grid is exhausted."""
        known = [*self.book.imported, *self._peers(arm)]
        if turn is None or optimizer is None or arm.sampler.kind in DESIGNED:
            return arm.sampler.ask(number, known, optimizer)
        return arm.sampler.spread(number, known, optimizer, turn, self._quota())

    def _finisher(self) -> Trial | None:
        """The best paused trial of an optimizer that has none that went or goes to the end."""
        if self.stopping != "trials":
            return None
        for name in self.spec.optimizers:
            trials = [t for t in self.book.stage("search") if t.optimizer == name]
            if any(t.state in ("complete", "pending", "running") for t in trials):
                continue
            if (trial := best_paused(trials, self.metric, self.spec.objective.mode)) is not None:
                self.history.write("promote", trial=trial.number, full=True)
                return trial
        return None

    def _confirmation(self) -> Trial | None:
        """A confirm trial that is owed, once the search's own trials are through."""
        through = self.stopping in ("trials", "wall_clock", "gpu_hours") and is_settled(self.book)
        if self.spec.confirm is None or not through:
            return None
        for winner, seed in owed(self.book, self.spec.confirm):
            event = self.history.write("ask", **ask_event(self.book, winner, seed))
            return self.book.trials[event["trial"]]
        return None

    def _turns(self) -> Iterator[tuple[Arm, str | None, int | None]]:
        """Whose turn it is, the optimizer with the fewest trials first: the arm, the optimizer if
        the sampler is not to choose it, and which of its first trials this is, if one of those.
        """
        drawn = [t.optimizer for t in self.book.stage("search") if not t.baseline]
        all_of = [t.optimizer for t in self.book.stage("search")]
        for name in sorted(self.spec.optimizers, key=all_of.count):
            first = all_of.count(name) < self._quota()
            given = first or self.spec.allocation == "equal"
            arm = next(arm for arm in self.arms if name in arm.names)
            yield arm, name if given else None, drawn.count(name) if first else None

    def _quota(self) -> int:
        """Trials that each optimizer gets before a sampler learns from results."""
        return max(1, min(QUOTA, self.spec.budget.trials // len(self.spec.optimizers)))

    def _budget_reached(self) -> str | None:
        budget, asked = self.spec.budget, self._asked()
        limit = budget.trials
        if self.spec.allocation == "equal":  # whole rounds: each optimizer gets as many
            limit -= limit % len(self.spec.optimizers)
        if asked >= max(limit, 1):
            return "trials"
        if budget.wall_clock is not None and self._elapsed() >= budget.wall_clock:
            return "wall_clock"
        if (
            budget.gpu_hours is not None
            and hours_used(self.spec, self.book, self.history.clock()) >= budget.gpu_hours
        ):
            return "gpu_hours"
        return None

    def _asked(self) -> int:
        """Trials that count for the budget: all of the search but those the user added."""
        return sum(not trial.added for trial in self.book.stage("search"))

    def _elapsed(self) -> float:
        """Seconds that drivers of this search have run."""
        last = self.book.last_event or 0
        return self.book.seconds + max(0.0, self.history.clock() - last / 1000)

    def _prune_hopeless(self) -> None:
        """End the paused trials that can't come back, so that their checkpoints can go."""
        to_come = max(0, self.spec.budget.trials - self._asked())
        for arm in self.arms:
            for trial in arm.scheduler.hopeless(self._peers(arm), to_come):
                same = [t for t in self.paused() if t.optimizer == trial.optimizer]
                top = best_paused(same, self.metric, self.spec.objective.mode)
                if not trial.again and trial is not top:  # the best of an optimizer may finish
                    self.end(trial.number, "pruned", "others were better at its rung")

    def _arm(self, names: list[str]) -> Arm:
        spec, alone = self.spec, self.spec.allocation == "equal"
        study = f"{self.book.id}/{names[0]}" if alone else self.book.id
        sampler = Sampler(
            spec.space,
            names,
            spec.sampler.type,
            spec.sampler.seed,
            spec.objective.metric,
            spec.objective.mode,
            study,
        )
        return Arm(names, sampler, build_scheduler(spec))

    def _arm_of(self, trial: Trial) -> Arm:
        return next(arm for arm in self.arms if trial.optimizer in arm.names)

    def _peers(self, arm: Arm) -> list[Trial]:
        return [trial for trial in self.book.stage("search") if trial.optimizer in arm.names]

    def _write(
        self, number: int, chosen: dict[str, Any], *, baseline: bool = False, **marks: bool
    ) -> Trial:
        """Write down a new trial. Marks: `full`, `added`."""
        spec = self.spec
        config = spec.trial.resolve(**settings(chosen), threads=threads(spec), code=spec.code)
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


def hours_used(spec: SearchSpec, book: Book, now: float | None = None) -> float:
    """GPU-hours of all trials, up to `now` for running ones; CPU-hours where they use no GPU."""
    trials = book.stage("search")
    seconds = sum(trial.seconds for trial in trials)
    if now is not None:
        began = (trial.began for trial in trials)
        seconds += sum(max(0.0, now - ms / 1000) for ms in began if ms is not None)
    need = spec.resources
    return seconds / 3600 * (need.gpu or need.cpu) * need.workers


def threads(spec: SearchSpec) -> int:
    """CPU threads of a trial: its whole cores, at least one."""
    return max(1, int(spec.resources.cpu))


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
