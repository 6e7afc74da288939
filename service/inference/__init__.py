"""From decoded pictures to readings: admission, queue, batches, worker process. Knows no HTTP."""
