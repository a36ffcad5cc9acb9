"""A trial as Ray runs it: its processes, its checkpoints, and what they print.

For others: DiffusionTrial and GangTrial; checkpoint, kept and output, which need no Ray.
The only room of this package that imports Ray.
Never decides anything about a search: it trains up to the next report, and tells it.
"""
