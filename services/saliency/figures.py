"""Between assessments and filters and their messages."""

from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.saliency.assessment import Assessment
from services.saliency.catalogue import Entry
from services.saliency.rates import Rate
from services.saliency.triage import Filter, Sighting, Verdict, Wish, sum_wanted

_VERDICTS = {
    Verdict.WANTED: saliency_pb2.FILTER_VERDICT_WANTED,
    Verdict.UNWANTED: saliency_pb2.FILTER_VERDICT_UNWANTED,
    Verdict.UNLIKE: saliency_pb2.FILTER_VERDICT_UNLIKE,
}


def write_evaluation(assessment: Assessment) -> saliency_pb2.ClassifierEvaluation:
    """Tell how a classifier did on what was held out."""
    return saliency_pb2.ClassifierEvaluation(
        accuracy=_write_rate(assessment.accuracy),
        labels=[
            saliency_pb2.LabelFigures(
                label=one.label, recall=_write_rate(one.recall), precision=_write_rate(one.precision)
            )
            for one in assessment.labels
        ],
        confusion=[saliency_pb2.ConfusionCell(**vars(cell)) for cell in assessment.confusion],
        mistakes=[saliency_pb2.Mistake(**vars(mistake)) for mistake in assessment.mistakes],
        calibration_error=assessment.calibration_error,
        raw_calibration_error=assessment.raw_calibration_error,
        held_out_unit_count=assessment.held_out_unit_count,
        look_alike_cosine=assessment.look_alike_cosine,
    )


def read_wish(request: saliency_pb2.FilterImageRequest) -> Wish:
    """Give what is wanted, defaults filled in. Raises InvalidArgument naming the field."""
    return Wish(
        labels=tuple(request.wanted_labels),
        recall=request.recall if request.HasField("recall") else Wish.recall,
        confidence=request.confidence if request.HasField("confidence") else Wish.confidence,
    )


def write_filtered(sighting: Sighting, wish: Wish, chosen: Filter, entry: Entry) -> saliency_pb2.FilterImageResponse:
    """Answer FilterImage."""
    wanted = wish.find_wanted(entry.about.labels)
    probability = float(sum_wanted(sighting.probabilities[None], wanted)[0])
    return saliency_pb2.FilterImageResponse(
        verdict=_VERDICTS[chosen.judge(probability, sighting.distance)],
        probability=probability,
        distance=sighting.distance,
        filter=_write_filter(chosen),
        model=types_pb2.ModelRef(name=entry.name, version=entry.version),
    )


def _write_filter(chosen: Filter) -> saliency_pb2.Filter:
    return saliency_pb2.Filter(
        threshold=chosen.threshold,
        wanted_distance=chosen.wanted_distance,
        unlike_distance=chosen.unlike_distance,
        promised_recall=chosen.promised_recall,
        recall=_write_rate(chosen.recall),
        precision=_write_rate(chosen.precision),
        needed_count=chosen.needed_count,
        held_out_unit_count=chosen.held_out_unit_count,
    )


def _write_rate(rate: Rate) -> saliency_pb2.Rate:
    return saliency_pb2.Rate(**vars(rate))
