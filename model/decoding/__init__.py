"""From log posteriors to text: CTC, beam search, language model, rescoring. May import `model.network` only."""
