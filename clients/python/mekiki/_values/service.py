"""The four services."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "codec": "mekiki.codec.v1.CodecService",
        "saliency": "mekiki.saliency.v1.SaliencyService",
        "boxfit": "mekiki.boxfit.v1.BoxfitService",
        "anomaly": "mekiki.anomaly.v1.AnomalyService",
    }
)
"""Each service's short name and its name on the wire."""


@dataclass(frozen=True)
class ServiceStatus:
    """How a service is."""

    service: str
    address: str
    state: str
    """"serving", "not_serving", "absent" where another service answers at its address, or "unreachable"."""

    version: str
    """Of the product; empty when it did not say."""

    problem: str
    """Why it cannot be reached; empty when it can."""

    @property
    def is_serving(self) -> bool:
        """Whether it answers calls."""
        return self.state == "serving"
