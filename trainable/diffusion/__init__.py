"""The noise process: noise levels, objectives, validation and sampling, as the papers have them.

For others: Diffusion (config), build_process, ProcessObjective, Validation, draw.
A process maps u in [0, 1), the quantile of a noise level, to what the network sees.
Imports data, models and parallel; never an optimizer or the loop.
"""
