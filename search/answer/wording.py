"""The answer in plain sentences, made from the numbers of the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

MANY = 3  # more than so many are named together, without an interval for each
CHEAPER = 0.9  # of what the best needs: a saving worth a word
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def answer(content: dict[str, Any]) -> str:
    """What to take first, then how the others stand, then for what this holds."""
    take = content["take"]
    if take:
        said = [_taken(content, take), _others(content, take), _scope(content), _tuning(content)]
        return " ".join(part for part in said if part)
    if content["diverged"]:
        names = [f"{name} on {_of(row)}" for name, row in content["diverged"].items()]
        return f"Nothing to take: every confirmed config diverged ({listed(names)} fresh seeds)."
    tops = {name: row["best"] for name, row in content["optimizers"].items() if row["best"]}
    if not tops:
        return "No trial is complete yet, so there is nothing to compare."
    metric, mode = content["objective"]["metric"], content["objective"]["mode"]
    first = (min if mode == "min" else max)(tops, key=lambda name: tops[name][metric])
    return (
        f"The best found so far is {first} with a {metric} of {tops[first][metric]:.4f}, but no "
        "verdict between optimizers: each number is the best of many tries with one seed. "
        "Confirming the winners on fresh seeds gives one."
    )


def _taken(content: dict[str, Any], take: dict[str, Any]) -> str:
    name, count = take["optimizer"], 1 + sum(len(take[k]) for k in ("as_good", "behind"))
    if not content["verdicts"]:
        return f"Take {name}: the only one of these configs that did not diverge."
    count += len(take["undecided"])
    what = "optimizers" if content["replicates"] > 1 else "configs"
    these = f"the best of these {COUNTS[count] if count < len(COUNTS) else count} {what}"
    if take["within"] is None:
        return f"Take {name}, {these} as far as is known."
    if not take["within"]:
        return f"Take {name}: {these}."
    return f"Take {name}: at most {_percent(take['within'])} worse than {these}."


def _others(content: dict[str, Any], take: dict[str, Any]) -> str:
    """How those that are not taken stand, one zone after another."""
    parts = [*_as_good(content, take), *_behind(content, take), *_undecided(content, take)]
    return f"{'; '.join(parts)}." if parts else ""


def _as_good(content: dict[str, Any], take: dict[str, Any]) -> Iterator[str]:
    if names := take["as_good"]:
        does = "does" if len(names) == 1 else "do"
        cheaper = "".join(f", and {said}" for said in cheapest(content, take))
        yield f"{listed(names)} {does} as well, within {_percent(content['margin'])}{cheaper}"


def cheapest(content: dict[str, Any], take: dict[str, Any]) -> Iterator[str]:
    """Of those as good as the best, the one that keeps the least, and the fastest."""
    rows = {n: content["optimizers"].get(n) for n in (take["optimizer"], *take["as_good"])}
    known = {name: row for name, row in rows.items() if row and row["confirmed"]}
    if take["optimizer"] not in known:
        return
    state = {name: row["bytes_per_parameter"] or 0.0 for name, row in known.items()}
    time = {name: row["confirmed"]["seconds"] for name, row in known.items()}
    for cost, words in ((state, "keeps {:.1f} bytes a weight, not {:.1f}"), (time, "")):
        name, best = min(cost, key=cost.__getitem__), cost[take["optimizer"]]
        if cost[name] < CHEAPER * best:
            saved = f"takes {_percent(1 - cost[name] / best)} less time"
            yield f"{name} {words.format(cost[name], best) if words else saved}"


def _behind(content: dict[str, Any], take: dict[str, Any]) -> Iterator[str]:
    claims = dict[str, dict[str, Any]]()
    for verdict in content["verdicts"]:
        if verdict["verdict"] == "better":
            claims.setdefault(verdict["b"], verdict)
        elif verdict["verdict"] == "worse":
            claims.setdefault(verdict["a"], verdict)
    measured = [name for name in take["behind"] if name in claims]
    if len(measured) > MANY:
        yield f"{listed(measured)} are behind ({span(content, [claims[n] for n in measured])})"
    else:
        for name in measured:
            other = claims[name]["a"] if claims[name]["b"] == name else claims[name]["b"]
            whom = "" if other == take["optimizer"] else f" {other}"
            yield f"{name} is behind{whom} ({interval(content, claims[name])})"
    for name in take["behind"]:
        if name in content["diverged"]:
            yield f"{name} is behind, since it diverged on {_of(content['diverged'][name])} seeds"


def _undecided(content: dict[str, Any], take: dict[str, Any]) -> Iterator[str]:
    unit = "searches" if content["replicates"] > 1 else "seeds"
    needed = take["seeds_needed"]
    told = [name for name in take["undecided"] if needed.get(name)]
    close = [name for name in take["undecided"] if not needed.get(name)]
    if told:
        is_ = "is" if len(told) == 1 else "are"
        more = listed([str(needed[name]) for name in told])
        yield f"{listed(told)} {is_} undecided: about {more} more {unit} would tell"
    if close:
        is_ = "is" if len(close) == 1 else "are"
        margin = _percent(content["margin"])
        yield f"{listed(close)} {is_} undecided, too close to the margin of {margin} to decide"


def sentence_at_equal_time(content: dict[str, Any]) -> str | None:
    """The same at equal training time."""
    timed = content["equal_time"]
    if not timed["verdicts"]:
        return None
    best = timed["verdicts"][0]["a"]
    by = {
        word: [v for v in timed["verdicts"] if v["a"] == best and v["verdict"] == word]
        for word in ("better", "as good", "undecided")
    }
    parts = []
    if ahead := by["better"]:
        shares = listed([f"{v['b']} ({interval(content, v)})" for v in ahead])
        many = f"{listed([v['b'] for v in ahead])} ({span(content, ahead)})"
        parts.append(f"{best} is better than {many if len(ahead) > MANY else shares}")
    if by["as good"]:
        parts.append(f"{listed([v['b'] for v in by['as good']])} as good as {best}")
    if by["undecided"]:
        names = listed([best, *(v["b"] for v in by["undecided"])])
        parts.append(f"between {names} nothing is decided")
    said = (
        f"At equal training time ({timed['seconds']:.1f} s, in which the fastest finishes its "
        f"budget): {'; '.join(parts)}."
    )
    if timed["cut"]:
        said += (
            f" The learning rate of {listed(timed['cut'])} had not decayed by then as its "
            "schedule plans for the full budget, so only a rerun at the shorter one can answer."
        )
    return said


def how_sure(content: dict[str, Any]) -> str:
    """What the words promise, what they cover, and what they leave out, with its size."""
    rate = f"{100 * content['error_rate']:g} %"
    unit = "searches" if content["replicates"] > 1 else "seeds"
    data = ", not of the data, the model or the ranges that were searched"
    if content["splits"] == "each":
        data = (
            " and of which examples train and which test, so they are about new examples of the "
            "same kind, but not about another model or other ranges"
        )
    said = (
        f"Of all such answers at most {rate} call anyone behind who is not, and at most {rate} "
        f"call anyone as good who is worse by more than {_percent(content['margin'])}. "
        f"The intervals hold for all pairs at once. They cover the luck of {unit}{data}."
    )
    luck = {n: row["luck"] for n, row in content["optimizers"].items() if row["luck"] is not None}
    if content["replicates"] == 1 and luck:
        least, most = min(luck, key=luck.__getitem__), max(luck, key=luck.__getitem__)
        size = f"{_percent(luck[most])} worse ({most})"
        if least != most:
            size = f"{_percent(luck[least])} ({least}) to {size}"
        said += (
            " Nor do they cover the luck of the search: with half as many trials, the best found "
            f"would have been {size}. So this is about these configs; `replicates` in the spec "
            "makes it about optimizers."
        )
    return said


def interval(content: dict[str, Any], verdict: dict[str, Any]) -> str:
    """How much worse the loser's loss is, as a share of the best's."""
    low, high = sorted(abs(end) for end in verdict["interval"])
    metric = content["objective"]["confirmed_on"].replace("_", " ")
    side = "higher" if content["objective"]["mode"] == "min" else "lower"
    middle = share(verdict, abs(verdict["difference"]))
    ends = f"{share(verdict, low).removesuffix(' %')} to {share(verdict, high)}"
    return f"{metric} {middle} {side}, interval {ends}"


def span(content: dict[str, Any], verdicts: list[dict[str, Any]]) -> str:
    """The least and the greatest of several differences."""
    found = sorted(verdicts, key=lambda v: abs(v["difference"]))
    metric = content["objective"]["confirmed_on"].replace("_", " ")
    side = "higher" if content["objective"]["mode"] == "min" else "lower"
    ends = [share(v, abs(v["difference"])) for v in (found[0], found[-1])]
    return f"{metric} {ends[0]} to {ends[1]} {side}"


def share(verdict: dict[str, Any], value: float, sign: str = "") -> str:
    """A difference as a share of the best's loss; as it is, where that is zero."""
    if not verdict["scale"]:
        return f"{value:{sign}.3g}"
    return f"{100 * value / verdict['scale']:{sign}.1f} %"


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %" if part < 0.1 else f"{100 * part:.0f} %"


def _of(row: dict[str, int]) -> str:
    return f"{row['seeds']} of {row['of']}"


def _tuning(content: dict[str, Any]) -> str:
    """What tuning was worth, where it was worth something."""
    before = content["before"]
    worse = before and before["behind_itself"]
    if not worse or worse < content["margin"]:
        return ""
    kind = "published default" if before["published"] else "baseline of the spec"
    return f"Untuned, as the {kind} has it, {before['optimizer']} was {_percent(worse)} worse."


def _scope(content: dict[str, Any]) -> str:
    budget, data = content["budget"], content["data"]
    article = "an" if data["model"]["type"] == "mlp" else "a"
    over = f"{len(content['seeds']['judged'])} fresh seeds"
    if content["replicates"] > 1:
        over = f"{content['replicates']} searches of each"
    return (
        f"This is for {budget['steps']} steps of {budget['batch_size']} examples for {article} "
        f"{data['model']['type']} on {data_name(data['dataset'])}, over {over}."
    )


def data_name(dataset: dict[str, Any]) -> str:
    """What people call a data set: its name, its folder or file, or its type."""
    path = dataset.get("path")
    return str(dataset.get("name") or (path and PurePath(path).name) or dataset["type"])


def told(mapping: dict[str, Any], parameters: int | None = None) -> str:
    """A part of the spec in one line: its type, and what was set of it."""
    knobs = [f"{k} {v}" for k, v in mapping.items() if k != "type" and v not in (None, False)]
    knobs += [f"{parameters:,} parameters"] if parameters else []
    return f"{mapping['type']} ({', '.join(knobs)})" if knobs else str(mapping["type"])


def duration(seconds: float) -> str:
    """In the unit that people would say it in."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
