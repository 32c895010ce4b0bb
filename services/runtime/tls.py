"""TLS for the server's port; certificates that are replaced are used for every connection made from then on."""

import grpc

from mekiki._wire.credentials import check_authority, read_pair
from mekiki._wire.watched import Watched
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition
from services.runtime.logs import get_logger


def open_server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What the port is opened with; None for a plain one.

    Raises:
        FailedPrecondition: a file cannot be used.
    """
    if settings.tls_cert is None:
        return None
    paths = [path for path in (settings.tls_cert, settings.tls_key, settings.tls_client_ca) if path is not None]
    try:
        watched = Watched(paths, lambda: _read(settings), _warn)
    except (OSError, ValueError) as error:
        raise FailedPrecondition("TLS_FILE_DAMAGED", str(error)) from error
    used = watched.value()

    def renew() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before every handshake, in a thread of its own; None lets it keep what it has."""
        nonlocal used
        before, used = used, watched.value()
        return None if used is before else used

    mutual = settings.tls_client_ca is not None
    return grpc.dynamic_ssl_server_credentials(used, renew, mutual)  # type: ignore[arg-type] # None is allowed


def _read(settings: Settings) -> grpc.ServerCertificateConfiguration:
    if settings.tls_cert is None or settings.tls_key is None:
        raise ValueError("a certificate needs its key")
    certificate, key = read_pair(settings.tls_cert, settings.tls_key)
    authority = check_authority(settings.tls_client_ca) if settings.tls_client_ca else None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)


def _warn(failure: Exception) -> None:
    get_logger().error("changed certificate cannot be used, the last good one stays", error=str(failure))
