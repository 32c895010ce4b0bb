"""Which box holds it? The box with the highest IoU against a binary map, proven best, and annotations made with it."""
