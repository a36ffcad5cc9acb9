"""Which trials stop early: rung rules on the samples clock, a function of the results alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.spec import SearchSpec


@dataclass
class Rungs:
    """Asynchronous successive halving, the stopping variant (Li et al. 2020, ASHA).

    A rung is a number of samples. A trial that reaches it goes on if its value is among the best
    1 / reduction_factor of the values recorded there, its own included. A rung that has fewer
    than min_results values stops nobody: early on, there is too little to compare with.
    """

    levels: tuple[int, ...]  # samples, ascending
    reduction_factor: int
    min_results: int
    mode: str = "min"
    values: dict[int, dict[int, float]] = field(default_factory=dict)  # level -> trial -> value

    def report(self, trial: int, before: int, samples: int, value: float) -> bool:
        """Record a result and say whether the trial goes on.

        `before` are the samples at the trial's last report: a rung is entered only when it is
        first crossed, and a report that crosses several enters the highest.
        """
        crossed = [level for level in self.levels if before < level <= samples]
        if not crossed:
            return True
        rung = self.values.setdefault(crossed[-1], {})
        rung[trial] = value
        return self.keeps(list(rung.values()), value)

    def keeps(self, values: list[float], value: float) -> bool:
        """Whether `value` is among the best 1 / reduction_factor of `values`, which hold it."""
        if len(values) < self.min_results:
            return True
        better = sum(v < value if self.mode == "min" else v > value for v in values)
        return better < max(1, len(values) / self.reduction_factor)


def build_rungs(spec: SearchSpec) -> Rungs:
    """The rungs that a spec asks for; none without a scheduler."""
    config = spec.scheduler
    levels = () if config.type == "none" else rung_levels(spec)
    return Rungs(levels, config.reduction_factor, config.min_results, spec.objective.mode)


def rung_levels(spec: SearchSpec) -> tuple[int, ...]:
    """Samples at each rung: grace x reduction_factor^k below the full budget.

    Unless given, grace is an eighth of the budget, and at least twice the longest warmup: before
    that, losses rank warmups, not settings.
    """
    config, trial = spec.scheduler, spec.trial
    longest = spec.space.largest_warmup(trial.steps)
    grace = config.grace_steps or max(2 * longest, trial.steps // 8, 1)
    levels = []
    while grace < trial.steps:
        levels.append(grace * trial.batch_size)
        grace *= config.reduction_factor
    return tuple(levels)
