"""How boxfit asks saliency: with the maps of single views, which tell how sure a box is."""

import mekiki
from mekiki import ExplainOptions


def explain(
    client: mekiki.Client, classifier: str, image: mekiki.ImageLike, label: str, options: ExplainOptions
) -> mekiki.Explanation:
    """Ask for the map of an image, by the sync client of a job."""
    return client.saliency.explain_image(
        classifier,
        image,
        label=label,
        method=options.method,
        layer=options.layer,
        scales=options.scales,
        flip=options.flip,
        with_views=True,
    )


async def explain_soon(
    client: mekiki.AsyncClient,
    classifier: str,
    image: mekiki.ImageLike,
    label: str,
    options: ExplainOptions,
    timeout_s: float | None,
) -> mekiki.Explanation:
    """Ask for the map of an image, by the async client of the service."""
    return await client.saliency.explain_image(
        classifier,
        image,
        label=label,
        method=options.method,
        layer=options.layer,
        scales=options.scales,
        flip=options.flip,
        with_views=True,
        timeout_s=timeout_s,
    )
