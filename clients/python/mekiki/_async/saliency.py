"""Saliency: what is in the image, and which pixels say so?"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mekiki._async.operation import AsyncOperation
from mekiki._async.segmentation import AsyncSegmentation
from mekiki._async.streams import Travel, answer_frames, tag_frames
from mekiki._values.classifier import FilteredImage
from mekiki._values.dataset import ItemsLike, to_item_filter
from mekiki._values.frame import Answer, Frame
from mekiki._values.image import ImageLike, to_image
from mekiki._values.saliency import Classification, Classifier, ClassifierRecipe, ExplainMethod, Explanation
from mekiki._values.word import number_of
from mekiki._wire import asynchronous as wire
from mekiki.saliency.v1 import saliency_pb2

PAGE_SIZE = 1000


class AsyncSaliency(AsyncSegmentation):
    """Classifiers and segmenters: trained from labels alone, asked what and where. Object detectors: from boxes."""

    async def train_classifier(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        classifier: str,
        items: ItemsLike,
        *,
        recipe: ClassifierRecipe = ClassifierRecipe.THAWED,
        backbone: str = "",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        input_size: int | None = None,
        validation_fraction: float | None = None,
        seed: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncOperation[Classifier]:
        """Trains a classifier on the first label of each item; a name that exists gets a new version.

        Args:
            classifier: its name.
            items: two labels at least.
            recipe: how it learns; ORIGINAL is the named baseline. Other defaults follow it.
            backbone: of timm, or "small"; default "mobilenetv2_100", of ORIGINAL "vgg16".
            epochs: rounds over the items, 1 to 500; default 12, of ORIGINAL 25.
            learning_rate: of the last layer; default 0.003, of ORIGINAL 0.001 for all layers.
            batch_size: images a step, 1 to 256; default 16, of ORIGINAL 4.
            input_size: side of the square an image is resized to, pixels, a multiple of 32; default 224.
            validation_fraction: share held out to choose the epoch, calibrate and filter, 0.05 to 0.5; default 0.2.
            seed: of split, augmentation and order.
            timeout_s: deadline of starting it.
        """
        request = saliency_pb2.TrainClassifierRequest(
            classifier=classifier,
            items=to_item_filter(items),
            backbone=backbone,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            input_size=input_size,
            validation_fraction=validation_fraction,
            seed=seed,
            recipe=number_of(saliency_pb2.ClassifierRecipe, recipe),
        )
        record = await self._funnel.start(self._stub.TrainClassifier, request, timeout_s)
        return AsyncOperation(self._funnel, self._operations, record)

    async def get_classifier(self, classifier: str, *, timeout_s: float | None = None) -> Classifier:
        """Describes the version of a classifier that serves.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.GetClassifierRequest(classifier=classifier)
        response = await self._funnel.unary(self._stub.GetClassifier, request, timeout_s)
        return Classifier.from_proto(response.classifier)

    async def list_classifiers(self, *, timeout_s: float | None = None) -> tuple[Classifier, ...]:
        """All classifiers, by name; `timeout_s` is for each page of 1000."""
        classifiers: list[Classifier] = []
        request = saliency_pb2.ListClassifiersRequest(page_size=PAGE_SIZE)
        while True:
            response = await self._funnel.unary(self._stub.ListClassifiers, request, timeout_s)
            classifiers += map(Classifier.from_proto, response.classifiers)
            if not response.next_page_token:
                return tuple(classifiers)
            request.page_token = response.next_page_token

    async def delete_classifier(self, classifier: str, *, timeout_s: float | None = None) -> None:
        """Deletes a classifier with all its versions.

        Raises:
            NotFound: there is none of that name.
        """
        request = saliency_pb2.DeleteClassifierRequest(classifier=classifier)
        await self._funnel.unary(self._stub.DeleteClassifier, request, timeout_s)

    async def classify_image(
        self, classifier: str, image: ImageLike, *, timeout_s: float | None = None
    ) -> Classification:
        """Says what is in an image."""
        sent = await wire.run_blocking(to_image, image)
        request = saliency_pb2.ClassifyImageRequest(classifier=classifier, image=sent)
        return Classification.from_proto(await self._funnel.unary(self._stub.ClassifyImage, request, timeout_s))

    async def classify_images(
        self,
        classifier: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[Classification], None]:
        """`classify_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> saliency_pb2.ClassifyImagesRequest:
            request = saliency_pb2.ClassifyImageRequest(classifier=classifier, image=to_image(image))
            return saliency_pb2.ClassifyImagesRequest(id=tag, request=request)

        def convert(answer: saliency_pb2.ClassifyImagesResponse) -> Classification:
            return Classification.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.ClassifyImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer

    async def explain_image(  # noqa: PLR0913 -- the fields of the request, each with the service's default
        self,
        classifier: str,
        image: ImageLike,
        *,
        label: str = "",
        method: ExplainMethod | None = None,
        layer: str = "",
        heatmap_side: int = 0,
        scales: Sequence[float] = (),
        flip: bool = False,
        with_views: bool = False,
        timeout_s: float | None = None,
    ) -> Explanation:
        """Says which pixels speak for a label.

        Args:
            classifier: its name.
            image: the image.
            label: what to explain; default the most probable label.
            method: default CAM where the head allows it, else Grad-CAM.
            layer: all but CAM: a layer of the backbone; default the last convolution's output.
            heatmap_side: longer side of the heat map, 0 to 4096 cells; 0 means the layer's own grid.
            scales: of the network's input, at most 5, to average over; default 1 alone.
            flip: average over mirror images, too.
            with_views: tell the map of each scale and mirror image by itself, too.
            timeout_s: deadline; default 60 s.
        """
        request = saliency_pb2.ExplainImageRequest(
            classifier=classifier,
            image=await wire.run_blocking(to_image, image),
            label=label,
            method=number_of(saliency_pb2.ExplainMethod, method or ""),
            layer=layer,
            heatmap_side=heatmap_side,
            scales=scales,
            flip=flip,
            with_views=with_views,
        )
        return Explanation.from_proto(await self._funnel.unary(self._stub.ExplainImage, request, timeout_s))

    async def explain_images(  # noqa: PLR0913 -- as explain_image
        self,
        classifier: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        *,
        label: str = "",
        method: ExplainMethod | None = None,
        layer: str = "",
        heatmap_side: int = 0,
        scales: Sequence[float] = (),
        flip: bool = False,
        with_views: bool = False,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[Explanation], None]:
        """`explain_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> saliency_pb2.ExplainImagesRequest:
            request = saliency_pb2.ExplainImageRequest(
                classifier=classifier,
                image=to_image(image),
                label=label,
                method=number_of(saliency_pb2.ExplainMethod, method or ""),
                layer=layer,
                heatmap_side=heatmap_side,
                scales=scales,
                flip=flip,
                with_views=with_views,
            )
            return saliency_pb2.ExplainImagesRequest(id=tag, request=request)

        def convert(answer: saliency_pb2.ExplainImagesResponse) -> Explanation:
            return Explanation.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.ExplainImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer

    async def filter_image(
        self,
        classifier: str,
        image: ImageLike,
        wanted_labels: Sequence[str],
        *,
        recall: float | None = None,
        confidence: float | None = None,
        timeout_s: float | None = None,
    ) -> FilteredImage:
        """Says whether an image is one of those that are wanted, such that few of them are missed.

        Args:
            classifier: its name.
            image: the image.
            wanted_labels: one to all but one of the classifier's labels.
            recall: share of the wanted images that is to be called wanted, 0.5 to 0.999; default 0.98.
            confidence: probability that this share is reached, 0.5 to 0.999; default 0.95.
            timeout_s: deadline; default 60 s.

        Raises:
            FailedPrecondition: NO_HELD_OUT_ITEMS: no item of a wanted label was held out in the training.
        """
        request = saliency_pb2.FilterImageRequest(
            classifier=classifier,
            image=await wire.run_blocking(to_image, image),
            wanted_labels=wanted_labels,
            recall=recall,
            confidence=confidence,
        )
        return FilteredImage.from_proto(await self._funnel.unary(self._stub.FilterImage, request, timeout_s))

    async def filter_images(
        self,
        classifier: str,
        images: wire.Input[ImageLike | Frame[ImageLike]],
        wanted_labels: Sequence[str],
        *,
        recall: float | None = None,
        confidence: float | None = None,
        window: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Answer[FilteredImage], None]:
        """`filter_image` for a stream: one answer an image, in order; one bad image answers its own error."""

        def make(tag: str, image: ImageLike) -> saliency_pb2.FilterImagesRequest:
            request = saliency_pb2.FilterImageRequest(
                classifier=classifier,
                image=to_image(image),
                wanted_labels=wanted_labels,
                recall=recall,
                confidence=confidence,
            )
            return saliency_pb2.FilterImagesRequest(id=tag, request=request)

        def convert(answer: saliency_pb2.FilterImagesResponse) -> FilteredImage:
            return FilteredImage.from_proto(answer.response)

        travel = Travel.of(self._funnel.options, window, timeout_s)
        async with aclosing(
            answer_frames(self._stub.FilterImages, tag_frames(images, make), convert, travel)
        ) as answers:
            async for answer in answers:
                yield answer
