"""A cluster over ssh, on machines that people list in a file.

For others: load_inventory, up_hosts, down_hosts.
What is written to a host lies under ~/.diffsweep, for its owner alone.
Imports local and remote; never commands.
"""
