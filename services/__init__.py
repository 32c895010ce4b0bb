"""The four gRPC services of Mekiki and the runtime they share."""

import os

from services.runtime.cores import count_cores

# A waiting thread of OpenMP spins for a tenth of a millisecond and then sleeps: services, jobs and neighbours share the
# cores, and spinning on made a network 3 times slower as soon as one other process wanted to compute; sleeping at once
# made it a quarter slower on its own. As many threads as there are cores for us. Read when torch or FAISS is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))
