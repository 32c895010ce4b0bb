"""`python -m services.saliency`."""

from services.runtime.server import Opening, run
from services.saliency.config import SaliencySettings
from services.saliency.servicer import open_service

OPENING = Opening("saliency", SaliencySettings, open_service)

if __name__ == "__main__":
    run([OPENING])
