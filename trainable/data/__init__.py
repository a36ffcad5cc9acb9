"""What a trial trains on: the data shelf, its three parts, and the stream of batches.

For others: DatasetConfig and DATASETS (shelf), load_data, Data and Part, Batches.
The shelf is read without torch; loaders/ has the code that each entry names.
Never imports models, diffusion or training.
"""
