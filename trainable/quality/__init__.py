"""How good samples are, in numbers that need no downloaded network.

For others: finish, which measures a complete trial, and try_features.
Features, distances between them, and pictures of samples have a file each.
It measures a TrainState from outside: the loop never imports it.
"""
