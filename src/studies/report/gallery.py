"""The pictures of a report, each with a text for those who cannot see it."""

from typing import Any

from src.explanation.before_after import Pixels
from src.studies.plan.study import Row
from src.studies.report.pictures import classes_shown, data_uri, feature_colours, overlay, photo
from src.studies.results.results import Results
from src.studies.results.samples import Samples, read_samples

KEPT = {
    True: "With its adapters off, {row} gives the features of the frozen backbone bit for bit: checked on evaluation "
    "images, and the weights below still have the hash that they were loaded with.",
    False: "With its adapters off, {row} does not give the frozen backbone's features: its own weights were trained.",
    None: "",
}


def galleries(results: Results) -> dict[str, Any]:
    """Predictions and features of a few images, before and after; empty where no row and baseline have any."""
    chosen = samples_of_both(results)
    if chosen is None:
        return {"overlays": [], "features": [], "classes": [], "kept": "", "old": "", "new": "", "probe": ""}
    row, probe, before, after = chosen
    old = results.study.rows[results.study.baseline].label
    return {
        "overlays": overlays(before, after),
        "features": features(before, after, old, row.label),
        "classes": classes_shown([before, after]),
        "kept": KEPT[after.restored].format(row=row.label),
        "old": old,
        "new": row.label,
        "probe": probe,
    }


def samples_of_both(results: Results) -> tuple[Row, str, Samples, Samples] | None:
    """The first pre-trained row, and its pictures and the baseline's of a column and seed that both have."""
    study = results.study
    for row in study.rows.values():
        for column, described in study.columns.items():
            for seed in study.seeds:
                if row.name == study.baseline or not study.measures(row.name, column):
                    continue
                cells = [results.cell(name, column, seed) for name in (study.baseline, row.name)]
                before, after = (read_samples(results.store.folder(cell) / "samples.npz") for cell in cells)
                if before is not None and after is not None:
                    return row, f"{described.label}, seed {seed}", before, after
    return None


def overlays(before: Samples, after: Samples) -> list[dict[str, Any]]:
    """Image, truth and both predictions of each image."""
    found = []
    for left, right in zip(before.images, after.images, strict=True):
        image, name = photo(left), left.name
        pictures = [
            picture(image, "image", f"{name} as it is"),
            picture(overlay(image, left.truth, before), "truth", f"{name}: true classes over the image"),
        ]
        predictions = {
            "before": data_uri(overlay(image, left.prediction, before)),
            "after": data_uri(overlay(image, right.prediction, after)),
        }
        found.append({"name": name, "pictures": pictures, **predictions})
    return found


def features(before: Samples, after: Samples, old: str, new: str) -> list[list[dict[str, Any]]]:
    """The first three principal components of the patch features, in one basis for all pictures."""
    return [
        [
            picture(photo(sample), "image", f"{sample.name} as it is"),
            picture(left, f"{old} features", f"{sample.name}: features of {old} as colours", exact=True),
            picture(right, f"{new} features", f"{sample.name}: features of {new} as colours", exact=True),
        ]
        for sample, (left, right) in zip(before.images, feature_colours(before, after), strict=True)
    ]


def picture(pixels: Pixels, caption: str, spoken: str, exact: bool = False) -> dict[str, Any]:
    """One picture with its caption."""
    return {"uri": data_uri(pixels, exact), "caption": caption, "spoken": spoken, "exact": exact}
