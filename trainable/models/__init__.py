"""The networks: the model shelf, ours, those of diffusers, and the user's own.

For others: ModelConfig and MODELS (shelf), build_model, prepare (weights to start from).
A network is called net(x, t), or net(x, t, labels) where the data has labels.
Imports data for the shapes of examples; never the noise process or an optimizer.
"""
