"""What the data shelf loads: a file for each kind of source.

Nobody imports these but the shelf, by the names in its entries, when a search begins.
Each gives examples [N, *shape], or a pair with labels; bad data is told by file and row.
Imports data and base, and never anything that trains.
"""
