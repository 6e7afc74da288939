"""Execution of a network on a device, and its precision. Imports `model.network` only."""
