"""How weights are moved: the optimizer shelf, lr_schedules, clipping, EMAs, and what is watched.

For others: OPTIMIZERS and OptimizerConfig (shelf), build_optimizer, lr_factor, Clipping, Emas.
An entry of the shelf tells all of an optimizer: its class, knobs, ranges, published default.
Never imports data, models or the noise process.
"""
