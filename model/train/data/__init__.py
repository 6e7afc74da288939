"""Training samples: drawn and real lines, their augmentation, shards on disk and batches."""
