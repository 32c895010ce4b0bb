"""`python -m services.boxfit`."""

from services.boxfit.config import BoxfitSettings
from services.boxfit.servicer import open_service
from services.runtime.server import Opening, run

OPENING = Opening("boxfit", BoxfitSettings, open_service)

if __name__ == "__main__":
    run([OPENING])
