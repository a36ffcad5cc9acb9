"""What to try and what to stop: decisions, each written down before it is acted on.

For others: Engine, build_scheduler, Sampler, and what trials say in numbers (analysis).
Decisions follow from the history alone, so a replay and a resumed search make the same.
Never imports Ray, MLflow or a process.
"""
