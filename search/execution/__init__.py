"""How Ray runs a search: on this machine or as a job of a cluster, and whose turn it is.

For others: tune_trials, prepared, the places Here and Joined, Dashboard.
The only room that imports Ray Tune; what a trial is, trainable/actor/ knows.
It carries out what the engine decides, and decides nothing.
"""
