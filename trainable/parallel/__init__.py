"""One trial in several processes: a gang, and gradients that are summed over it.

For others: Gang, which is a gang of one, and Workers, one of several.
Plain torch.distributed: which processes they are, actor/ decides.
Imports base alone, and never Ray.
"""
