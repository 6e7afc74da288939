"""The Open Inference Protocol (KServe v2), which Triton's clients and docling speak."""
