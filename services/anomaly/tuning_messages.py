"""Between TuneCompression's messages and what is tuned."""

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from services.anomaly.plan_messages import check_range, is_prepared, read_plan
from services.anomaly.rate_search import Point, Tuned, even_out, mean_auroc
from services.runtime.errors import InvalidArgument

MAX_LOSS = 0.005
RANGES = {mekiki.VideoCodec.HEVC: (10, 46, 51), mekiki.VideoCodec.AV1: (20, 60, 63)}
"""Rate factors to try by default, from and to, and the largest that there is."""


def read_tuning(request: anomaly_pb2.TuneCompressionRequest) -> None:
    """Fills in the largest loss; the range of rate factors is that of the encoding's codec, see `read_crfs`.

    Raises:
        InvalidArgument: names the field.
    """
    try:
        read_plan(request.judge, aligned=False)
    except InvalidArgument as error:
        raise InvalidArgument(f"judge.{error.field}", error.description) from None
    if not is_prepared(request.judge):
        raise InvalidArgument("judge.items.form", "must be PREPARED: only prepared images are compressed")
    request.max_loss = request.max_loss if request.HasField("max_loss") else MAX_LOSS
    check_range("max_loss", request.max_loss, 0, 0.5)
    largest = max(limit for _, _, limit in RANGES.values())
    most = check_range("max_crf", request.max_crf, 0, largest) if request.HasField("max_crf") else largest
    check_range("min_crf", request.min_crf, 0, most)


def read_crfs(request: anomaly_pb2.TuneCompressionRequest, codec: mekiki.VideoCodec) -> tuple[int, int]:
    """The smallest and the largest rate factor to try, given what compresses; raises InvalidArgument."""
    least, most, largest = RANGES[codec]
    least = request.min_crf if request.HasField("min_crf") else least
    most = request.max_crf if request.HasField("max_crf") else max(least, most)
    check_range("max_crf", most, 0, largest)
    check_range("min_crf", least, 0, most)
    return least, most


def write_tuning(tuned: Tuned) -> anomaly_pb2.TuneCompressionResponse:
    """The response."""
    even = even_out(tuned.points)
    return anomaly_pb2.TuneCompressionResponse(
        crf=tuned.crf,
        points=[_write_point(point, loss) for point, loss in zip(tuned.points, even, strict=True)],
        raw_auroc=mean_auroc(tuned.raw),
        prepared_auroc=mean_auroc(tuned.prepared),
        normal_count=sum(len(trial.normals) for trial in tuned.prepared),
        defect_count=sum(len(trial.defects) for trial in tuned.prepared),
        defect_strength=tuned.strength,
    )


def _write_point(point: Point, even_loss: float) -> anomaly_pb2.RatePoint:
    return anomaly_pb2.RatePoint(
        crf=point.crf,
        frame_bytes=point.frame_bytes,
        auroc=point.auroc,
        loss=point.loss.value,
        loss_lower=point.loss.low,
        loss_upper=point.loss.high,
        even_loss=even_loss,
    )
