"""How a network is computed on a device. May import `model.network` only."""
