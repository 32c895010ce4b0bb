"""What both colours tell gRPC about a connection."""

import json

from mekiki._wire.policy import ClientOptions

_LOOPBACK = ("127.", "localhost", "[::1]")

# Names that resolve to several addresses (a headless service) are used in turn, and those alone that say they serve: a
# replica that is about to stop is left before it goes. Where nobody answers for health, all are used (gRPC A17).
_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})

Arguments = list[tuple[str, str | int]]


def channel_arguments(address: str, options: ClientOptions) -> Arguments:
    """Channel arguments of gRPC for a connection to `address` (host:port)."""
    arguments: Arguments = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A lost server is looked for again soon: the policy's waits are what spares it, not the channel's.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A replica that comes or goes is noticed soon: gRPC's own pause between two looks at a name is 30 s.
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        # Two clients of one process stay two clients.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if options.credentials.server_name:
        arguments.append(("grpc.ssl_target_name_override", options.credentials.server_name))
    if address.removeprefix("dns:///").removeprefix("ipv4:").startswith(_LOOPBACK):
        arguments.append(("grpc.enable_http_proxy", 0))
    return arguments
