"""The verbs of `diffsweep`: options, help texts, and how answers are shown.

For others: the commands that cli.py collects.
Heavy imports stay inside the functions, so that `--help` answers at once.
Imports every room; nothing but cli.py imports it.
"""
