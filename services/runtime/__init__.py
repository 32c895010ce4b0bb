"""What every service shares: server, batcher, store, operations, limits, images, errors, metrics."""
