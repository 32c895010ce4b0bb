"""What a stream says of a frame that failed."""

from google.rpc import status_pb2

from services.runtime import metrics
from services.runtime.errors import MekikiError
from services.runtime.logs import get_logger
from services.runtime.status import CODES, to_status

_CODE_NAMES = {code.value[0]: code.name for code in CODES.values()}


def tell_failure(error: Exception) -> status_pb2.Status:
    """Returns the error's status, counts it, and logs it where it is a bug."""
    status = to_status(error)
    if not isinstance(error, MekikiError):
        get_logger().error("a frame failed", exc_info=error)
    metrics.FRAME_ERRORS.labels(_CODE_NAMES.get(status.code, "INTERNAL")).inc()
    return status
