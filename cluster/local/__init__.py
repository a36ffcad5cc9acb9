"""The cluster of this machine: Ray and MLflow as processes on loopback, and how they are found.

For others: the_cluster and find_cluster (address), up and down, services.
Ends only what it started, by process id.
Never imports remote, hosts or commands.
"""
