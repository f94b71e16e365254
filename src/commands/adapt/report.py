"""`report.html` of an adaptation: one self-contained page, the verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from src.commands.adapt.advice import advice
from src.commands.adapt.outcome import ROWS, SCORES, Outcome
from src.core.atomic_files import write_text
from src.studies.report.charts import Bar, Levels, axis_chart, colour, interval_chart, svg
from src.studies.report.pictures import file_uri
from src.studies.report.style import style

TONES = {"helped": "up", "harmed": "down", "broken": "down"}
WORDS = {
    "helped": "It helped.",
    "harmed": "It made results worse: use the frozen model.",
    "mixed": "Mixed: better by one measure, worse by another.",
    "inconclusive": "Inconclusive.",
    "broken": "Broken: use the frozen model.",
    "no sign of harm": "No sign of harm.",
}
POINTS = ("miou", "matched_miou", "average_precision", "knn", "whitened_knn")  # scores in points


@dataclass(frozen=True)
class Page:
    """Content of a report.

    Attributes:
        images: Folder of the images.
        count: Number of images used.
        name: timm name of the backbone.
        weights: As in `load_backbone`.
        adapter: The file.
        outcome: The verdict.
        monitor: Output lines of the monitor and the guards.
        pictures: Features before and after.
        kinds: The sentence of `two_kinds`, if there is one.
        masks: Predicted masks over their images, if any.
    """

    images: Path
    count: int
    name: str
    weights: str
    adapter: Path
    outcome: Outcome
    monitor: Sequence[str]
    pictures: Sequence[Path]
    kinds: str | None = None
    masks: Sequence[Path] = ()

    @property
    def code(self) -> str:
        """Python code that loads the adapted model."""
        return (
            "from src import load_backbone\n"
            f'backbone = load_backbone("{self.name}", weights="{self.weights}", adapter="{self.adapter}")'
        )


def write_report(folder: Path, page: Page) -> Path:
    """Write `report.html` atomically."""
    path = folder / "report.html"
    write_text(path, html(page))
    return path


def html(page: Page) -> str:
    """The page."""
    template_file = Path(__file__).with_name("report.html.j2")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(template_file.read_text(encoding="utf-8"))
    outcome = page.outcome
    return template.render(
        page=page,
        word=WORDS[outcome.word],
        tone=TONES.get(outcome.word, "flat"),
        advice=advice(outcome, page.kinds),
        style=style(),
        pictures=[file_uri(path) for path in page.pictures],
        masks=[file_uri(path) for path in page.masks],
        charts=Markup("".join(charts(outcome))),
        scores={name: label for name, label in SCORES.items() if outcome.rows},
        rows={label: outcome.rows[name] for name, label in ROWS.items() if name in outcome.rows},
    )


def charts(outcome: Outcome) -> list[Markup]:
    """Charts of changes with their intervals, and of scores over the adapter's strength, if there are masks."""
    bars = [
        Bar(SCORES[name], outcome.changes[name], outcome.changes[name].certain)
        for name in POINTS
        if name in outcome.changes
    ]
    found = []
    if bars:
        title = "Adapted against frozen, points, 95 % intervals over images"
        found.append(_figure(title, svg(interval_chart(title, bars))))
    if outcome.strengths:
        names = ("miou", "whitened_knn")
        series = [
            Levels(SCORES[name], number, {scale: (values[name], 0.0) for scale, values in outcome.strengths.items()})
            for number, name in enumerate(names)
        ]
        axis = "strength of the adapter (adapter_scale)"
        chart = axis_chart("mIoU", axis, sorted(outcome.strengths), series)
        keys = Markup(" · ").join(
            Markup('<span style="color: {}">{}</span>').format(colour(number), item.label)
            for number, item in enumerate(series)
        )
        found.append(_figure(Markup("From frozen (0) to adapted (1): {}").format(keys), svg(chart)))
    return found


def _figure(caption: str, chart: Markup) -> Markup:
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(caption, chart)
