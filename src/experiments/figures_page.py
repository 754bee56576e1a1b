"""Render the page of figures: one HTML file without any other file than the images."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment

from experiments.code_state import NAMES
from experiments.errors import one_line
from experiments.figure_metadata import PROVENANCE
from experiments.figures import Figure, describe, group_figures, relative_link
from experiments.listing import readable_size

TEMPLATE = Path(__file__).with_name("figures.html.jinja")
SHOWN = (".png", ".svg", ".gif", ".jpg", ".jpeg", ".webp")  # formats that browsers show as images


def render_page(figures: Sequence[Figure], page: Path) -> str:
    """Return the HTML of a page that will be written to `page`. Every value is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"size": readable_size, "link": lambda path: relative_link(path, page.parent)}
    environment.filters |= {"words": search_words, "facts": facts_of, "text": one_line}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    groups = [(group, list(each)) for group, each in groupby(group_figures(figures), lambda figure: figure.group)]
    experiments = sorted({figure.experiment for figure in figures if figure.experiment})
    html = template.render(
        groups=groups, experiments=experiments, marks=NAMES, shown=SHOWN, summary=describe(figures), root=os.sep
    )
    return html.encode(errors="backslashreplace").decode()  # a file name may have bytes that are not UTF-8


def search_words(figure: Figure) -> str:
    """Return the text that the filter searches, in lower case."""
    own = (figure.metadata.get(name, "") for name in PROVENANCE)
    marks = (mark.name for mark in figure.marks)
    return one_line(" ".join((figure.title, figure.path.name, figure.experiment, figure.point, *own, *marks))).lower()


def facts_of(figure: Figure) -> list[tuple[str, str]]:
    """Return the lines of the table under a figure."""
    found = [(name, figure.metadata.get(name, "")) for name in PROVENANCE]
    if figure.point:
        found.insert(2, ("Point", figure.point))
    return [(name, one_line(value)) for name, value in found if value and value != "none"]
