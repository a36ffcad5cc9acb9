"""What to try, and what was learned: the driver of a search.

Read run.py first: one search from its spec to its answer. Rooms from the ground up:
history, spec, engine, answer, tracking, takeaway, execution, forecast, watch.
Imports trainable, and never cluster.
"""
