"""Settings: a field here, `MEKIKI_FIELD` in the environment and a key in the chart are one name."""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import Field, FilePath, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Ge(0), Le(65535)]


class Settings(BaseSettings):
    """What every service is told from outside. Read once, at start; all mistakes are reported together."""

    model_config = SettingsConfigDict(env_prefix="MEKIKI_", env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: Port = 8080
    """gRPC port; 0 takes any free one."""
    metrics_port: Port = 0
    """Port of the Prometheus metrics; 0 takes any free one, which the log names."""
    store_url: str = f"file://{Path.home() / '.local' / 'share' / 'mekiki'}"
    """Where all state is kept: file:///path or s3://bucket/prefix."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N: where models run."""
    max_batch: Annotated[int, Ge(1), Le(1024)] = 16
    """Most requests that are computed together."""
    max_wait_ms: Annotated[float, Ge(0), Le(1000)] = 2.0
    """Longest time that a request waits for company."""
    queue_limit: Annotated[int, Ge(1), Le(100_000)] = 64
    """Most requests that wait; the next one is answered RESOURCE_EXHAUSTED."""
    max_message_bytes: Annotated[int, Ge(1 << 20), Le((1 << 31) - 1)] = 64 << 20
    """Largest message, in and out."""
    max_pixels: Annotated[int, Gt(0)] = 64_000_000
    """Most pixels of an image, checked from its header before it is decoded."""
    stream_window: Annotated[int, Ge(1), Le(1024)] = 8
    """Most frames of one stream that are in work at once."""
    runner: Literal["local", "kubernetes"] = "local"
    """Where jobs run: as processes of this machine, or as Kubernetes Jobs."""
    job_template: Path = Path("/etc/mekiki/job.yaml")
    """The Job (batch/v1, YAML) that every job is made from, where they run in a cluster."""
    max_jobs: Annotated[int, Ge(1), Le(64)] = 1
    """Most training, encoding and evaluation jobs that run at once: on this machine, or of one service in a cluster."""
    tenant_queue_limit: Annotated[int, Ge(1), Le(1000)] = 100
    """Most operations of one service that a tenant may have without outcome; the next one is refused."""
    operations_keep_days: Annotated[float, Ge(1)] = 90.0
    """An operation that has ended is forgotten so long after its start."""
    child_idle_s: Annotated[float, Gt(0)] = 300.0
    """A child process (rembg: 700 MB; GPyOpt: 250 MB) ends after so long without work; the next use starts another."""
    sweep_grace_s: Annotated[float, Ge(3600)] = 86_400.0
    """Objects that nobody refers to are deleted after twice this time; no write lasts longer than once."""
    sweep_every_s: Annotated[float, Ge(60)] = 3600.0
    """How often objects that nobody refers to are looked for."""
    drain_timeout_s: Annotated[float, Ge(0)] = 30.0
    """Longest time that calls in flight may take after SIGTERM."""
    traces_endpoint: Annotated[str, Field(pattern=r"^(https?://[^/]+)?$")] = ""
    """Where spans are sent, a collector of OpenTelemetry (OTLP over gRPC): http://host:4317 or https://host:4317."""
    traces_ratio: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the traces that begin here that is recorded; a caller that sends `traceparent` decides for its own."""
    log_level: str = "info"
    """debug, info, warning or error."""
    weights_dir: Path | None = None
    """Folder with pretrained weights (safetensors), searched first."""
    weights_hub: bool = True
    """Whether weights may be fetched from the hub; off for air-gapped machines."""
    codec_address: str = "127.0.0.1:8080"
    """Where the codec service listens."""
    saliency_address: str = "127.0.0.1:8080"
    """Where the saliency service listens."""
    tls_cert: FilePath | None = None
    """PEM file of the port's certificate, with its chain; calls of other services show it too."""
    tls_key: Annotated[FilePath | None, Field(validate_default=True)] = None
    """PEM file of its key."""
    tls_client_ca: FilePath | None = None
    """PEM file of the CA of clients' certificates; given, nobody comes in without one."""
    tls_ca: Annotated[FilePath | None, Field(validate_default=True)] = None
    """PEM file of the CA of other services' certificates; default that of the clients."""
    tls_server_name: str = ""
    """Name that other services' certificates carry where it is not their address."""
    auth_jwks: FilePath | None = None
    """JWKS file with the keys of whoever issues JWTs; this or the next one turns authentication on."""
    auth_audience: Annotated[str, Field(validate_default=True)] = ""
    """The audience (aud) that a JWT must be for."""
    auth_issuer: str = ""
    """The issuer (iss) that a JWT must be from; empty for any whose key is in the file."""
    auth_tokens: FilePath | None = None
    """JSON file with the hashes of tokens, and whose they are."""
    service_token_file: FilePath | None = None
    """File with the token that jobs show to other services."""
    rate_limit_per_s: Annotated[float, Ge(0)] = 0.0
    """Calls and frames a second that one caller may make, by service and replica; 0 for any number."""
    rate_limit_burst: Annotated[int, Ge(1)] = 100
    """So many of them at once after a pause."""
    max_connection_age_s: Annotated[float, Ge(1)] = 300.0
    """A connection is replaced after this time, so that new replicas get load and new certificates are shown."""
    max_connection_age_grace_s: Annotated[float, Ge(0)] = 600.0
    """Longest time that calls under way on it may still take; the SDK takes streams up again."""
    health_port: Annotated[int, Ge(1), Le(65535)] | None = None
    """Plain port that answers health alone, for probes that know no TLS."""

    @field_validator("tls_key")
    @classmethod
    def _check_key(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("tls_cert") is None):
            raise ValueError("a certificate and its key go together")
        return key

    @field_validator("tls_ca")
    @classmethod
    def _check_authority(cls, authority: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("tls_cert") and not (authority or info.data.get("tls_client_ca")):
            raise ValueError("must be given, since other services are called over TLS too")
        return authority

    @field_validator("auth_audience")
    @classmethod
    def _check_audience(cls, audience: str, info: ValidationInfo) -> str:
        if info.data.get("auth_jwks") and not audience:
            raise ValueError("must be given: a JWT for another service must not open this one")
        return audience


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Reads the environment; on mistakes prints each with its variable's name and exits with 2."""
    try:
        return settings_class()
    except ValidationError as error:
        for mistake in error.errors():
            name = "MEKIKI_" + "_".join(map(str, mistake["loc"])).upper()
            print(f"{name}: {mistake['msg']} (is {mistake['input']!r})", file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(2) from None
