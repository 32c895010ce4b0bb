"""What is in an image, and which pixels say so: classifiers, segmenters, object detectors."""
