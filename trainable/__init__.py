"""One trial: the training of one diffusion model with one config."""
