"""The demonstration: a folder of part images through all four services, and a report of what came of it."""
