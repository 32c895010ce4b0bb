"""The four gRPC services of Mekiki and the runtime they share."""

import os

# A waiting thread of OpenMP sleeps instead of spinning: services, jobs and neighbours share the cores, and spinning
# made a network 3 times slower as soon as one other process wanted to compute. Read when torch or FAISS is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
