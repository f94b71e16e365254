"""The picture sections of a report, each with a text for those who cannot see it."""

from html import escape

from src.studies.pictures import Pixels, classes_shown, data_uri, feature_colours, overlay, photo
from src.studies.samples import Samples


def overlay_gallery(before: Samples, after: Samples, old: str, new: str) -> str:
    """Image, truth and both predictions, with a legend of the classes that appear."""
    rows = []
    for left, right in zip(before.images, after.images, strict=True):
        image, name = photo(left), left.name
        rows.append(
            strip(
                picture(image, "image", f"{name} as it is"),
                picture(overlay(image, left.truth, before), "truth", f"{name}: true classes over the image"),
                picture(overlay(image, left.prediction, before), old, f"{name}: classes that {old} predicts"),
                picture(overlay(image, right.prediction, after), new, f"{name}: classes that {new} predicts"),
            )
        )
    keys = "".join(
        f'<li><i style="background:rgb{colour}"></i>{escape(name)}</li>'
        for name, colour in classes_shown([before, after])
    )
    note = "Evaluation images spread evenly over the set, not chosen by their result. Dark: belongs to no class."
    return section("What is segmented", note, f'<ul class="keys">{keys}</ul>{"".join(rows)}')


def feature_gallery(before: Samples, after: Samples, old: str, new: str) -> str:
    """The first three principal components of the patch features, in one basis for all pictures."""
    rows = []
    for sample, (left, right) in zip(before.images, feature_colours(before, after), strict=True):
        name = sample.name
        rows.append(
            strip(
                picture(photo(sample), "image", f"{name} as it is"),
                picture(left, f"{old} features", f"{name}: features of {old} as colours", exact=True),
                picture(right, f"{new} features", f"{name}: features of {new} as colours", exact=True),
            )
        )
    note = (
        "Each square is a patch; red, green and blue are the first three principal components of its features, in one "
        "basis for all pictures, so that equal colours mean equal features before and after."
    )
    return section("What the features see", note, "".join(rows))


def section(title: str, note: str, content: str) -> str:
    """A heading, how to read what follows, and that."""
    return f'<section><h2>{title}</h2><p class="soft">{note}</p>{content}</section>'


def strip(*pictures: str) -> str:
    """Pictures side by side, two by two on a telephone."""
    return f'<div class="row" style="--count:{len(pictures)}">{"".join(pictures)}</div>'


def picture(pixels: Pixels, caption: str, spoken: str, exact: bool = False) -> str:
    """One picture with its caption."""
    return (
        f'<figure><img src="{data_uri(pixels, exact)}" alt="{escape(spoken, quote=True)}"'
        f"{' class=map' if exact else ''}><figcaption>{escape(caption)}</figcaption></figure>"
    )
