"""Where a search runs, and the command that people type.

Read cli.py first. It stays on the client: the cluster is sent trainable and search.
Rooms from the ground up: local, remote, hosts, commands.
Imports search and trainable; neither of them imports it.
"""
