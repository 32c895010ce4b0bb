"""Who may call what: one table from RPC to the least role, and whether it changes anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from services.runtime.errors import PermissionDenied


class Role(IntEnum):
    """What a caller may do; each one may do all that those before it may."""

    NOBODY = 0
    """No token at all."""
    KNOWN = 1
    """A valid token, whatever it says."""
    LINE = 2
    """Judges images."""
    ENGINEER = 3
    """Trains, enrols, annotates, evaluates; reads and writes data sets; watches operations."""
    ADMIN = 4
    """Everything; deletes."""


@dataclass(frozen=True)
class Rule:
    """What an RPC asks of its caller."""

    role: Role
    changes: bool = False
    """Whether it changes anything, and so is in the audit log."""


_LINE, _ENGINEER = Rule(Role.LINE), Rule(Role.ENGINEER)
_CHANGE, _DELETE = Rule(Role.ENGINEER, changes=True), Rule(Role.ADMIN, changes=True)

_TABLE: dict[str, dict[str, Rule]] = {
    "mekiki.codec.v1.CodecService": {
        "PrepareImage": _LINE,
        "PrepareImages": _LINE,
        "GetDataset": _LINE,
        "ListDatasets": _LINE,
        "GetItem": _LINE,
        "ReadItems": _ENGINEER,  # takes whole data sets home
        "PreviewEncoding": _ENGINEER,
        "CreateDataset": _CHANGE,
        "AppendItems": _CHANGE,
        "UpdateItem": _CHANGE,
        "EncodeDataset": _CHANGE,
        "CompactDataset": _CHANGE,
        "VerifyDataset": _CHANGE,  # it mends
        "DeleteDataset": _DELETE,
    },
    "mekiki.saliency.v1.SaliencyService": {
        "ClassifyImage": _LINE,
        "ClassifyImages": _LINE,
        "ExplainImage": _LINE,
        "ExplainImages": _LINE,
        "FilterImage": _LINE,
        "FilterImages": _LINE,
        "GetClassifier": _LINE,
        "ListClassifiers": _LINE,
        "TrainClassifier": _CHANGE,
        "DeleteClassifier": _DELETE,
        "DetectObjects": _LINE,
        "DetectObjectsInImages": _LINE,
        "GetObjectDetector": _LINE,
        "ListObjectDetectors": _LINE,
        "TrainObjectDetector": _CHANGE,
        "DeleteObjectDetector": _DELETE,
        "SegmentImage": _LINE,
        "SegmentImages": _LINE,
        "GetSegmenter": _LINE,
        "ListSegmenters": _LINE,
        "TrainSegmenter": _CHANGE,
        "DeleteSegmenter": _DELETE,
    },
    "mekiki.boxfit.v1.BoxfitService": {
        "FitBox": _LINE,
        "FitBoxes": _LINE,
        "AnnotateImage": _ENGINEER,
        "AnnotateImages": _ENGINEER,
        "AnnotateDataset": _CHANGE,
        "CalibrateBoxes": _CHANGE,  # starts an operation
    },
    "mekiki.anomaly.v1.AnomalyService": {
        "ScoreImage": _LINE,
        "ScoreImages": _LINE,
        "GetDetector": _LINE,
        "ListDetectors": _LINE,
        "TrainDetector": _CHANGE,
        "EnrollItems": _CHANGE,
        "ForgetItems": _CHANGE,
        "CalibrateDetector": _CHANGE,
        "PromoteDetector": _CHANGE,
        "RollbackDetector": _CHANGE,
        "EvaluateDetector": _CHANGE,  # starts an operation
        "RunTrials": _CHANGE,
        "TuneCompression": _CHANGE,
        "DeleteDetector": _DELETE,
    },
    "google.longrunning.Operations": {
        "GetOperation": _ENGINEER,
        "ListOperations": _ENGINEER,
        "WaitOperation": _ENGINEER,
        "CancelOperation": _CHANGE,
        "DeleteOperation": _DELETE,
    },
    "grpc.health.v1.Health": {
        "Check": Rule(Role.NOBODY),
        "List": Rule(Role.NOBODY),
        "Watch": Rule(Role.NOBODY),
    },
    "grpc.reflection.v1alpha.ServerReflection": {
        "ServerReflectionInfo": Rule(Role.KNOWN),
    },
}

RULES: Mapping[str, Rule] = MappingProxyType(
    {f"/{service}/{name}": rule for service, rules in _TABLE.items() for name, rule in rules.items()}
)

UNKNOWN = Rule(Role.ADMIN, changes=True)
"""What an RPC asks that nobody has put into the table."""


def rule_of(rpc: str) -> Rule:
    """The rule of an RPC, given as the path of its calls, such as "/grpc.health.v1.Health/Check"."""
    return RULES.get(rpc, UNKNOWN)


def check_role(rpc: str, role: Role) -> None:
    """Raises PermissionDenied when the role does not suffice."""
    least = rule_of(rpc).role
    if role < least:
        name = rpc.rpartition("/")[2]
        raise PermissionDenied("ROLE", f"{name} needs the role {least.name.lower()}")


def read_role(names: object) -> Role:
    """The most that a list of names such as ["line", "engineer"] allows; what is no role allows nothing."""
    known = {role.name.lower(): role for role in (Role.LINE, Role.ENGINEER, Role.ADMIN)}
    listed = names if isinstance(names, list | tuple) else []
    return max((known.get(name, Role.KNOWN) for name in listed if isinstance(name, str)), default=Role.KNOWN)
