"""Masks from labels alone: seed, expand, constrain (Kolesnikov and Lampert, ECCV 2016), and what came after it."""
