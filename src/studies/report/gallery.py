"""The picture sections of a report, each with a text for those who cannot see it.

The slider is a range input that sets a CSS property on its parent: no script element, and half and half without any.
"""

from html import escape

from src.studies.report.pictures import Pixels, classes_shown, data_uri, feature_colours, overlay, photo
from src.studies.results.samples import Samples


def overlay_gallery(before: Samples, after: Samples, old: str, new: str) -> str:
    """Image, truth and both predictions under one slider, with a legend of the classes that appear."""
    rows = []
    for left, right in zip(before.images, after.images, strict=True):
        image, name = photo(left), left.name
        rows.append(
            strip(
                picture(image, "image", f"{name} as it is"),
                picture(overlay(image, left.truth, before), "truth", f"{name}: true classes over the image"),
                compare(
                    overlay(image, left.prediction, before), overlay(image, right.prediction, after), old, new, name
                ),
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


def compare(before: Pixels, after: Pixels, old: str, new: str, name: str) -> str:
    """Two predictions over each other; a slider says where one ends and the other begins."""
    old_text, new_text, label = (
        escape(text, quote=True)
        for text in (
            f"{name}: classes that {old} predicts",
            f"{name}: classes that {new} predicts",
            f"{name}: how much of {old} is shown, the rest is {new}",
        )
    )
    return (
        f'<figure class="wide"><div class="compare"><img src="{data_uri(before)}" alt="{old_text}">'
        f'<img class="over" src="{data_uri(after)}" alt="{new_text}"><span class="edge"></span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{label}" '
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\"></div>"
        f'<figcaption class="sides"><span>◂ {escape(old)}</span><span>{escape(new)} ▸</span></figcaption></figure>'
    )


def picture(pixels: Pixels, caption: str, spoken: str, exact: bool = False) -> str:
    """One picture with its caption."""
    return (
        f'<figure><img src="{data_uri(pixels, exact)}" alt="{escape(spoken, quote=True)}"'
        f"{' class=map' if exact else ''}><figcaption>{escape(caption)}</figcaption></figure>"
    )
