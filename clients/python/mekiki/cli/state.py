"""Commands about the installation: status, ops."""

from typing import Annotated, Any

import typer

from mekiki import (
    BankIndex,
    Client,
    ClientOptions,
    Detector,
    MekikiError,
    Operation,
    Progress,
    RetryPolicy,
    ServiceStatus,
)
from mekiki._values.service import SERVICES
from mekiki.cli.codes import EPILOG, ExitCode
from mekiki.cli.output import Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session

ops = typer.Typer(no_args_is_help=True, help="Long-running operations: list, show, wait, cancel.")

OperationName = Annotated[str, typer.Argument(metavar="OPERATION", help='Its name, such as "codec/operations/...".')]

# Whoever asks how things are wants the answer now.
IMPATIENT = ClientOptions(timeout_s=5, retry=RetryPolicy(attempts=2))


def status(*, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Show the four services: health, versions, data sets and models. Exits with 4 unless all of them serve."""
    with session(address, json=json, options=IMPATIENT) as (client, output):
        found = [client.check_service(service) for service in SERVICES]
        holdings = {each.service: _holdings(client, each) for each in found}
        output.table(
            ["service", "state", "version", "address", "holds"],
            ((s.service, s.state, s.version, s.address, ", ".join(holdings[s.service]) or s.problem) for s in found),
        )
        for each in found:
            output.value({**vars(each), "holds": holdings[each.service]})
        if not all(each.is_serving for each in found):
            raise typer.Exit(ExitCode.UNREACHABLE)


def _holdings(client: Client, status: ServiceStatus) -> list[str]:
    """What a service owns, by name; that it does not say is no reason to hide the others."""
    if not status.is_serving:
        return []
    try:
        return _list_models(client, status.service)
    except MekikiError as error:
        return [f"({error.message})"]


def _list_models(client: Client, service: str) -> list[str]:
    match service:
        case "codec":
            return [f"{dataset.name} ({dataset.item_count} items)" for dataset in client.codec.list_datasets()]
        case "saliency":
            classifiers = [f"{model.name}@{model.version}" for model in client.saliency.list_classifiers()]
            detectors = [f"{model.name}@{model.version}" for model in client.saliency.list_object_detectors()]
            segmenters = [f"{model.name}@{model.version}" for model in client.saliency.list_segmenters()]
            return classifiers + detectors + segmenters
        case "anomaly":
            found = client.anomaly.list_detectors(all_versions=True)
            return [_tell_detector(each) for each in found]
    return []


def _tell_detector(detector: Detector) -> str:
    notes = [] if detector.serving else ["does not serve"]
    if detector.bank_index is BankIndex.LISTS:
        notes.append(f"bank of {detector.vector_count:,} vectors, searched by lists, recall {detector.bank_recall:.3f}")
    if len(detector.categories) > 1:
        counts = ", ".join(f"{name or 'without name'} {count}" for name, count in sorted(detector.categories.items()))
        notes.append(f"categories: {counts}")
    return detector.reference + (f" ({'; '.join(notes)})" if notes else "")


@ops.command("list", epilog=EPILOG)
def list_(
    service: Annotated[str, typer.Argument(metavar="[SERVICE]", help="Only those of this service.")] = "",
    *,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """List operations, newest first."""
    with session(address, json=json) as (client, output):
        found = client.operations.list_operations(service)
        rows = ((each.name, each.seen.verb, _state(each), _steps(each.seen)) for each in found)
        output.table(["operation", "verb", "state", "progress"], rows)
        for each in found:
            _tell(each, output)


@ops.command(epilog=EPILOG)
def show(name: OperationName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Show how far an operation is."""
    with session(address, json=json) as (client, output):
        found = client.operations.get_operation(name)
        output.say(f"{found.name}: {found.seen.verb}, {_state(found)}, {_steps(found.seen)}")
        _tell(found, output)


@ops.command(epilog=EPILOG)
def wait(name: OperationName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Wait for an operation's end and show its result."""
    with session(address, json=json) as (client, output):
        result = follow(client.operations.get_operation(name), output, name)
        output.say(f"{name}: ended well")
        output.value(result)


@ops.command(epilog=EPILOG)
def cancel(name: OperationName, *, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Ask an operation to stop."""
    with session(address, json=json) as (client, output):
        found = client.operations.get_operation(name)
        found.cancel()
        output.say(f"{name}: asked to stop")
        _tell(found, output)


def _state(operation: Operation[Any]) -> str:
    if not operation.record.done:
        return "running"
    return "failed" if operation.record.HasField("error") else "done"


def _steps(progress: Progress) -> str:
    return f"{progress.phase} {progress.done}/{progress.total or '?'}"


def _tell(operation: Operation[Any], output: Output) -> None:
    error = operation.record.error.message
    output.value({"name": operation.name, "state": _state(operation), "error": error, "progress": operation.seen})
    if error:
        output.warn(f"{operation.name}: {error}")
