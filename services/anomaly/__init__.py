"""Is this part normal, and if not, where? Detectors made of an embedder, a bank of normal items and a threshold."""
