"""From uploaded bytes to documents: admission, queue, batches, worker process. Imports no HTTP code."""
