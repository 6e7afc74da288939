"""Decoding of logits to text: CTC, beam search, language model and rescoring. Imports `model.network` only."""
