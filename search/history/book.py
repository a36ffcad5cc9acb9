"""A search as its events add up to: the book, and the trials in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ENDED = ("complete", "pruned", "diverged", "failed", "cancelled")  # a trial does not go on
STATES = ("pending", "running", "paused", *ENDED)
AT_WORK = ("pending", "running")
INFRASTRUCTURE = "infrastructure:"  # begins why a trial failed that no setting of it made fail
CUT = "cut"  # the state of what was cut off in the middle; no rung decides about it
Event = dict[str, Any]
Group = tuple[str, int]  # an optimizer, and which of its searches


@dataclass(slots=True)
class Trial:
    """One trial as the history tells it."""

    number: int
    stage: str  # search or confirm
    chosen: dict[str, Any]  # what the sampler chose, by dimension
    config: dict[str, Any]  # the whole TrialConfig
    baseline: bool = False
    state: str = "pending"
    reports: list[dict[str, Any]] = field(default_factory=list)
    came: list[int] = field(default_factory=list)  # for each: how many the search had had before
    why: str | None = None  # it ended as it did
    began: int | None = None  # ms since the epoch; None while no process is at it
    reported: int | None = None
    ended: int | None = None
    ended_in: int | None = None  # the session in which it ended
    promoted: int | None = None  # samples at which it was allowed to go on
    added: bool = False  # by the user, outside the budget of trials
    full: bool = False  # nothing stops it before the end of the budget
    again: bool = False  # it was cut off, or failed and is retried: goes on when the search does
    seconds: float = 0.0  # that its process ran
    source: int | None = None  # of a confirm trial: the trial of the search that it repeats
    turn: int = 0  # how many trials of its group came before it
    replicate: int = 0  # which of several searches of its optimizer it belongs to

    @property
    def optimizer(self) -> str:
        name: str = self.config["optimizer"]["type"]
        return name

    @property
    def group(self) -> Group:
        """The search of one optimizer that it belongs to."""
        return self.optimizer, self.replicate

    @property
    def samples(self) -> int:
        """The clock of the last report that counts."""
        return self.reports[-1]["samples"] if self.reports else 0

    @property
    def full_samples(self) -> int:
        """The clock at the end of its budget."""
        samples: int = self.config["steps"] * self.config["batch_size"]
        return samples

    def last(self, metric: str) -> float | None:
        """The last reported value of a metric."""
        return self.reports[-1].get(metric) if self.reports else None

    @property
    def taken(self) -> bool:
        """Whether it ended for no reason of its own: its host was lost, or the user killed it."""
        lost = self.state == "failed" and (self.why or "").startswith(INFRASTRUCTURE)
        return lost or (self.state == "cancelled" and not self.again)

    @property
    def shown(self) -> str:
        """Its state as people are told: what was cut off waits like what a rung holds back."""
        return "paused" if self.state == CUT else self.state


@dataclass
class Book:
    """The state of a search: what the events add up to."""

    id: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)  # versions, and the data's fingerprint
    job: str | None = None  # the Ray job that drives it, or did last; None where it ran attached
    ending: bool = False  # the driver has written its last word
    imported: list[Trial] = field(default_factory=list)  # of earlier searches, for the sampler
    state: str = "pending"
    why: str | None = None
    started: int | None = None
    last_event: int | None = None
    sessions: int = 0
    seconds: float = 0.0  # that drivers ran, over all sessions
    session_event: int | None = None  # the last one of the present session, or of the last
    searched: list[Trial] = field(default_factory=list)  # trials of the search, in order
    confirming: list[Trial] = field(default_factory=list)  # confirm trials
    of: dict[Group, list[Trial]] = field(default_factory=dict)  # trials of the search
    added: int = 0  # of them, by the user
    watchers: list[Callable[[Trial], None]] = field(default_factory=list, compare=False)
    asked: Counter[Group] = field(default_factory=Counter)  # trials of all stages
    spent: Counter[Group] = field(default_factory=Counter)  # samples of the search
    reports: int = 0  # of all trials
    at_work: dict[int, Trial] = field(default_factory=dict)  # those that have a process
    seconds_of: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # that processes ran, by stage
    plans: list[int | str] = field(default_factory=list)  # seeds of confirm, as asked for in turn
    requests: set[str] = field(default_factory=set)  # ids of those that became trials

    def apply(self, event: Event) -> None:
        """Take in one event, and tell those who keep tables of the trials."""
        self._take_in(event)
        if "trial" in event:
            for watcher in self.watchers:
                watcher(self.trials[event["trial"]])

    def _take_in(self, event: Event) -> None:
        match event["event"]:
            case "start":
                self.id, self.spec, self.state = (
                    event["search"],
                    of_its_time(event["spec"]),
                    "running",
                )
                self.origin = self.origin or event.get("origin", {})
                self.why, self.ending, self.job = None, False, event.get("job")
                self.started = self.started or event["time"]
                self.sessions += 1
                seeds = (event["spec"].get("confirm") or {}).get("seeds")
                if seeds is not None and seeds not in self.plans[-1:]:
                    self.plans.append(seeds)
                self.session_event = event["time"]
                for trial in list(self.at_work.values()):  # of a driver that died without a word
                    self._rest(trial, self.last_event)
            case "ask":
                number = event["trial"]
                trial = self.trials[number] = Trial(
                    number,
                    event["stage"],
                    event["chosen"],
                    self._sharing(event["config"]),
                    event["baseline"],
                    full=event.get("full", False),
                    added=event.get("added", False),
                    source=event.get("source"),
                    replicate=event.get("replicate", 0),
                )
                trial.turn = self.asked[trial.group]
                self.asked[trial.group] += 1
                self.stage(trial.stage).append(trial)
                if trial.stage == "search":
                    self.of.setdefault(trial.group, []).append(trial)
                    self.added += trial.added
                if (request := event.get("request")) is not None:
                    self.requests.add(request)
            case "promote":
                trial = self.trials[event["trial"]]
                trial.state = "pending" if trial.state == "paused" else trial.state
                trial.promoted, trial.full = trial.samples, trial.full or event["full"]
            case "begin":
                trial = self.trials[event["trial"]]
                self._rest(trial, event["time"])  # its process was lost, and this is another
                trial.state, trial.began = "running", event["time"]
                trial.again = False
                self.at_work[trial.number] = trial
            case "lose":
                trial = self.trials[event["trial"]]
                self._rest(trial, event["time"])  # until another process begins, it costs nothing
                trial.state = "pending"
            case "report":
                trial = self.trials[event["trial"]]
                if trial.stage == "search":
                    self.spent[trial.group] += event["metrics"]["samples"] - trial.samples
                trial.reports.append(event["metrics"])
                trial.came.append(self.reports)
                self.reports += 1
                trial.reported = event["time"]
            case "end":
                trial = self.trials[event["trial"]]
                trial.state, trial.why, trial.ended = event["state"], event["why"], event["time"]
                trial.again, trial.ended_in = event["again"], self.sessions
                if trial.again and trial.state == "paused":
                    trial.state = CUT
                self._rest(trial, event["time"])
            case "retry":
                self.trials[event["trial"]].again = True
            case "import":
                self.imported += [Trial(**content) for content in event["trials"]]
            case "finish":
                self.state, self.why, self.ending = event["state"], event["why"], True
        if self.session_event is not None:
            self.seconds += max(0, event["time"] - self.session_event) / 1000
            self.session_event = event["time"]
        self.last_event = event["time"]

    def _sharing(self, config: dict[str, Any]) -> dict[str, Any]:
        """A config that has what all trials share from the spec, where it is kept once."""
        shared = self.spec.get("trial") or {}
        return {k: shared[k] if k in shared and shared[k] == v else v for k, v in config.items()}

    def _rest(self, trial: Trial, time: int | None) -> None:
        """No process works on a trial from `time` on (ms since the epoch)."""
        if trial.began is not None and time is not None:
            seconds = max(0, time - trial.began) / 1000
            trial.seconds += seconds
            self.seconds_of[trial.stage] += seconds
        trial.began = None
        self.at_work.pop(trial.number, None)

    def counts(self) -> dict[str, int]:
        """How many trials are in each state, states without a trial left out."""
        states = Counter(trial.shown for trial in self.trials.values())
        return {state: states[state] for state in STATES if states[state]}

    def stage(self, stage: str) -> list[Trial]:
        """The trials of the search, or those that confirm, in order; a list that grows."""
        return self.searched if stage == "search" else self.confirming


def of_its_time(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec as it was meant when it was written: without keys of later, whose defaults differ."""
    if "final_examples" in (trial := spec.get("trial", {})):
        return spec
    return spec | {"trial": trial | {"final_examples": 0}}
