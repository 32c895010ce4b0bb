"""Which objects are in an image, and where: detectors learnt from boxes, many objects at once."""
