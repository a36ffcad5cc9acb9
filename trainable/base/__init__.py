"""What all else stands on: errors, reading YAML, shelves, storage, devices.

For all: BadInput, read, Entry and load, open_storage and Storage, pick_device, view.
It knows nothing of data, models or training, and never imports a room above it.
What reads specs (errors, faults, reading, shelf) stays free of torch.
"""
