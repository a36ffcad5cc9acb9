"""One trial: the training of one diffusion model with one config.

Read train.py first: the loop, top to bottom; config.py is all that a trial is told.
For others: TrialConfig, load_data, Exported, the shelves, and the actors that Ray runs.
Never imports search, cluster, Optuna or MLflow; Ray only in actor/.
"""
