"""Between saliency's messages and its values."""

import re
from datetime import datetime

from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument
from services.runtime.images import encode_heatmap
from services.saliency.backbones import MAX_INPUT_SIZE, MIN_INPUT_SIZE, find_input_size, hub_repo
from services.saliency.catalogue import Entry
from services.saliency.model import Explanation, Method, Prediction, Question
from services.saliency.recipe import Recipe, RecipeName, find_recipe
from services.saliency.views import PLAIN_SCALES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
INPUT_SIZE_STEP = 32  # pixels; the coarsest stride of the usual backbones
PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

ListRequest = (
    saliency_pb2.ListClassifiersRequest | saliency_pb2.ListObjectDetectorsRequest | saliency_pb2.ListSegmentersRequest
)

_METHODS = {
    saliency_pb2.EXPLAIN_METHOD_UNSPECIFIED: Method.AUTO,
    saliency_pb2.EXPLAIN_METHOD_CAM: Method.CAM,
    saliency_pb2.EXPLAIN_METHOD_GRAD_CAM: Method.GRAD_CAM,
    saliency_pb2.EXPLAIN_METHOD_GRAD_CAM_PLUS_PLUS: Method.GRAD_CAM_PLUS_PLUS,
    saliency_pb2.EXPLAIN_METHOD_LAYER_CAM: Method.LAYER_CAM,
    saliency_pb2.EXPLAIN_METHOD_EIGEN_CAM: Method.EIGEN_CAM,
}
_RECIPES = {
    saliency_pb2.CLASSIFIER_RECIPE_UNSPECIFIED: RecipeName.THAWED,
    saliency_pb2.CLASSIFIER_RECIPE_THAWED: RecipeName.THAWED,
    saliency_pb2.CLASSIFIER_RECIPE_ORIGINAL: RecipeName.ORIGINAL,
}
_RECIPE_NUMBERS = {name: number for number, name in _RECIPES.items()}
_METHOD_NUMBERS = {method: number for number, method in _METHODS.items()}


def read_name(name: str, field: str = "classifier") -> str:
    """Give the name of a classifier, or of what `field` names. Raises InvalidArgument where it is none."""
    if not NAME.fullmatch(name):
        pattern = "a letter or digit, then up to 62 letters, digits, '-', '_' or '.'"
        raise InvalidArgument(field, f"must be {pattern}, is {name!r}")
    return name


def read_recipe(request: saliency_pb2.TrainClassifierRequest) -> Recipe:
    """Give the recipe asked for, defaults filled in. Raises InvalidArgument naming the field."""
    name = _RECIPES.get(request.recipe)
    if name is None:
        raise InvalidArgument("recipe", f"{request.recipe} is no ClassifierRecipe")
    recipe = find_recipe(name)
    hub_repo(request.backbone or recipe.backbone)  # refuses an unknown one
    return Recipe(
        backbone=request.backbone or recipe.backbone,
        epochs=request.epochs if request.HasField("epochs") else None,
        learning_rate=request.learning_rate if request.HasField("learning_rate") else recipe.learning_rate,
        batch_size=request.batch_size if request.HasField("batch_size") else recipe.batch_size,
        validation_fraction=(
            request.validation_fraction if request.HasField("validation_fraction") else recipe.validation_fraction
        ),
        seed=request.seed,
        name=name,
    )


def read_input_size(request: saliency_pb2.TrainClassifierRequest) -> int:
    """Give the side of the network's input, pixels. Raises InvalidArgument outside 32 to 1024 or off the step of 32."""
    if not request.HasField("input_size"):
        return find_input_size(read_recipe(request).backbone)
    return check_side(request.input_size, MIN_INPUT_SIZE)


def check_side(size: int, least: int) -> int:
    """Give back the side of a network's square, pixels. Raises InvalidArgument where it has none of that size."""
    if not least <= size <= MAX_INPUT_SIZE or size % INPUT_SIZE_STEP:
        limits = f"{least} to {MAX_INPUT_SIZE} pixels and a multiple of {INPUT_SIZE_STEP}"
        raise InvalidArgument("input_size", f"must be {limits}, is {size}")
    return size


def check_seed(seed: int) -> int:
    """Give back a seed. Raises InvalidArgument where it is negative."""
    if seed < 0:
        raise InvalidArgument("seed", f"must be 0 or more, is {seed}")
    return seed


def check_training(request: saliency_pb2.TrainClassifierRequest) -> None:
    """Refuse, with InvalidArgument naming the field, what the worker would refuse later."""
    read_recipe(request)
    read_input_size(request)


def read_question(request: saliency_pb2.ExplainImageRequest) -> Question:
    """Give what is asked of an image. Raises InvalidArgument for an unknown method."""
    method = _METHODS.get(request.method)
    if method is None:
        raise InvalidArgument("method", f"{request.method} is no ExplainMethod")
    return Question(
        label=request.label,
        method=method,
        layer=request.layer,
        heatmap_side=request.heatmap_side,
        scales=tuple(request.scales) or PLAIN_SCALES,
        flip=request.flip,
        with_views=request.with_views,
    )


def read_page(request: ListRequest, names: list[str]) -> tuple[list[str], str]:
    """Give the names of the page asked for, and the token of the next page, "" after the last."""
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InvalidArgument("page_size", f"must be 0 to {MAX_PAGE_SIZE}, is {request.page_size}")
    size = request.page_size or PAGE_SIZE
    rest = [name for name in names if name > request.page_token]
    page = rest[:size]
    return page, page[-1] if len(rest) > size else ""


def write_classifier(entry: Entry, evaluation: bytes = b"") -> saliency_pb2.Classifier:
    """Describe a version; `evaluation` is a ClassifierEvaluation as it was stored, b"" to leave it out."""
    about = entry.about
    message = saliency_pb2.Classifier(
        name=entry.name,
        version=entry.version,
        labels=about.labels,
        weights=types_pb2.WeightsOrigin(
            backbone=about.backbone, source=about.weights_source, description=about.weights_description
        ),
        input_size=about.input_size,
        validation_accuracy=about.validation_accuracy,
        split_by=about.split_by,
        train_count=about.train_count,
        validation_count=about.validation_count,
        best_epoch=about.best_epoch,
        recipe=_RECIPE_NUMBERS[RecipeName(about.recipe)],
        temperature=about.temperature,
    )
    if evaluation:
        message.evaluation.MergeFromString(evaluation)
    message.create_time.FromDatetime(datetime.fromisoformat(about.create_time))
    return message


def write_model(entry: Entry) -> types_pb2.ModelRef:
    """Name the version that answered."""
    return types_pb2.ModelRef(name=entry.name, version=entry.version)


def write_labels(prediction: Prediction) -> list[types_pb2.LabelScore]:
    """All labels, most probable first."""
    return [types_pb2.LabelScore(label=label, score=score) for label, score in prediction.ranking]


def write_explanation(
    explanation: Explanation, shape: tuple[int, ...], entry: Entry
) -> saliency_pb2.ExplainImageResponse:
    """Answer ExplainImage for an image of `shape` (h, w, ...)."""
    return saliency_pb2.ExplainImageResponse(
        heatmap=encode_heatmap(explanation.heatmap),
        label=explanation.label,
        score=explanation.score,
        labels=write_labels(explanation.prediction),
        model=write_model(entry),
        method=_METHOD_NUMBERS[explanation.method],
        image_width=shape[1],
        image_height=shape[0],
        views=[encode_heatmap(view) for view in explanation.views],
    )
