"""What is in an image, and which pixels say so: classifiers learnt from labels alone, and their heat maps."""
