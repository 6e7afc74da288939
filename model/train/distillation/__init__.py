"""Distillation: training a smaller network on the posteriors of a larger one. Used by the trainer only."""
