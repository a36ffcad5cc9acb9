"""Searches on a cluster, seen and steered from anywhere by its address and token.

For others: submit, locate, steer, status, follow.
What the files of a search say, a small job on the cluster answers (search/watch/answers.py).
Imports local for addresses; never hosts or commands.
"""
