"""The Pareto front of several objectives as a figure."""

from __future__ import annotations

from matplotlib.figure import Figure

from search.answer.drawing import WIDTH, Context, legend_above, looks
from search.history.book import Book


def pareto_front(book: Book, content: Context) -> tuple[Figure, str] | None:
    """The first objective against each other one: the front filled, others faint."""
    found = content["pareto"]
    if found is None or not found["front"]:
        return None
    first, *others = [one["metric"] for one in found["objectives"]]
    figure = Figure(figsize=(WIDTH, 4.0))
    panels = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, others, strict=True):
        for name, look in looks(content).items():
            for rows, size, alpha in ((found["behind"], 5, 0.35), (found["front"], 9, 1.0)):
                points = [r["values"] for r in rows if r["optimizer"] == name]
                known = [p for p in points if p[metric] is not None and p[first] is not None]
                if known:
                    x, y = ([p[m] for p in known] for m in (metric, first))
                    label = name if size == 9 else None
                    drawn = {"color": look.colour, "marker": look.marker, "alpha": alpha}
                    panel.plot(x, y, ls="none", ms=size, label=label, **drawn)
        panel.set_xlabel(metric.replace("_", " "))
    panels[0].set_ylabel(first.replace("_", " "))
    legend_above(figure, panels[0])
    return figure, (
        "Large: the front, complete trials that no other one beats in every objective. Faint: the "
        "other complete trials. Each point is one training with one seed."
    )
