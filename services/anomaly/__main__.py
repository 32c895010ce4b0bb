"""`python -m services.anomaly`."""

from services.anomaly.config import AnomalySettings
from services.anomaly.servicer import open_service
from services.runtime.server import Opening, run

OPENING = Opening("anomaly", AnomalySettings, open_service)

if __name__ == "__main__":
    run([OPENING])
