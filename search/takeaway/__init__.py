"""What people take home: config, weights and card, a model in MLflow, one more training.

For others: export, write_export, publish, train_config.
trainable/exported.py loads what is written here, without this package.
Never imports Ray.
"""
