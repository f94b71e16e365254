"""Print the screening's table in Markdown, each number marked with its place: screening_table.py [SETTING ...]

Reads results/screening/screening.json. Rows are settings, in the order of their score (docs/calibrated.md), those
without a score last; columns are domains.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from screening_domains import DOMAINS

from src.core.json_files import read_json

FILE = "results/screening/screening.json"
VALUES = {"miou": "", "whitened_knn": "", "cross_entropy": " %"}
NAMES = {"camvid": "CamVid", "cwfid": "CWFID", "loveda": "LoveDA", "scenes-grey": "grey scenes"}


def cell(cells: list[dict[str, Any]], domain: str, setting: str) -> str:
    """Changes of a setting on a domain, or a dash."""
    for index, one in enumerate(cells):
        if (one.get("stage"), one.get("domain"), one.get("setting")) == ("screening", domain, setting):
            mark = f"{FILE}#cells/{index}/change"
            return " · ".join(
                f"{number(one['change'][value][0])} <!-- from {mark}/{value}/0 -->{unit}"
                for value, unit in VALUES.items()
            )
    return "–"


def summarised(scores: list[dict[str, Any]], setting: str, key: str) -> str:
    """Mean, worst or score of a setting, or a dash."""
    for index, one in enumerate(scores):
        if one["setting"] == setting:
            return f"{number(one[key])} <!-- from {FILE}#scores/{index}/{key} -->"
    return "–"


def number(value: float) -> str:
    """A change with its sign, as the documents write it."""
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def main() -> None:
    """Print the table."""
    report = read_json(Path(__file__).parents[1] / FILE)
    cells = report["cells"]
    tried = [one for one in cells if one.get("stage") == "screening"]
    settings = sys.argv[1:] or list(dict.fromkeys(one["setting"] for one in [*report["scores"], *tried]))
    print(f"| objectives | {' | '.join(NAMES.get(name, name) for name in DOMAINS)} | mean | worst | score |")
    print("| --- " * (len(DOMAINS) + 4) + "|")
    for setting in settings:
        changes = [cell(cells, domain, setting) for domain in DOMAINS]
        summary = [summarised(report["scores"], setting, key) for key in ("mean", "worst", "score")]
        print("|", " | ".join([setting, *changes, *summary]), "|")


if __name__ == "__main__":
    main()
