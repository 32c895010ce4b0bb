"""What is in an image, and which pixels say so: classifiers and segmenters from labels alone, object detectors from boxes."""
