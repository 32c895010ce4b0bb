"""`python -m services.codec`."""

from services.codec.config import CodecSettings
from services.codec.servicer import open_service
from services.runtime.server import Opening, run

OPENING = Opening("codec", CodecSettings, open_service)

if __name__ == "__main__":
    run([OPENING])
