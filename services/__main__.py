"""All four services in one process on one port: the embedded default."""

from services.anomaly.__main__ import OPENING as ANOMALY
from services.boxfit.__main__ import OPENING as BOXFIT
from services.codec.__main__ import OPENING as CODEC
from services.runtime.server import run
from services.saliency.__main__ import OPENING as SALIENCY

OPENINGS = (CODEC, SALIENCY, BOXFIT, ANOMALY)

if __name__ == "__main__":
    run(OPENINGS)
