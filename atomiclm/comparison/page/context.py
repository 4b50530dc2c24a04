"""What the figures stand against, where they were made, and how to make them again."""

import shlex
from collections.abc import Mapping
from typing import Any

from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import Look, swatch
from atomiclm.comparison.page.parts import Cell, command, facts, number_cell, paragraphs, section, table
from atomiclm.comparison.page.rows import Recorded
from atomiclm.comparison.page.scale import number
from atomiclm.comparison.page.words import short_name_of
from atomiclm.comparison.wording import decimals_for
from atomiclm.user_error import UserError

SAMPLE_CHARACTERS = 1200
"""Of an arm's sample; all of it is in the record."""


def anchors(comparison: Comparison) -> Markup:
    """What n-grams and compressors reach on the same bytes, and the noise over seeds."""
    parts = []
    if comparison.anchors:
        rows = [[Cell(name), number_cell(number(value, 3), value)] for name, value in comparison.anchors.items()]
        parts.append(element("p", "What programs that learn nothing by gradient reach on the same validation bytes:"))
        parts.append(table("Anchors", ["anchor", "bits per byte"], rows))
    noise = comparison.noise
    metric = short_name_of(comparison.metric)
    if noise is not None and noise.deviation is not None:
        deviation = number(noise.deviation, decimals_for(noise.deviation))
        parts.append(
            element(
                "p",
                f"Noise: {metric} of the baseline has a standard deviation of {deviation} over {noise.count} seeds.",
            )
        )
    if noise is not None and noise.difference_deviation is not None:
        deviation = number(noise.difference_deviation, decimals_for(noise.difference_deviation))
        text = f"Differences to it by seed have one of {deviation}"
        if noise.detectable is not None:
            detectable = number(noise.detectable, decimals_for(noise.detectable))
            text += (
                f": with {noise.pairs} seeds an arm, a difference of {detectable} is found in 80 % of studies like this"
            )
        parts.append(element("p", f"{text}."))
    return section("anchors", "Anchors and noise", *parts)


def samples(comparison: Comparison, recorded: Recorded) -> Markup:
    """One text of every arm, beside each other."""
    articles = []
    for index, (arm, rows) in enumerate(zip(comparison.arms, recorded.arms, strict=True)):
        if rows.sample is None:
            continue
        seed, prompt, text = rows.sample
        cut = "…" if len(text) > SAMPLE_CHARACTERS else ""
        body = element("pre", element("mark", prompt) if prompt else None, text[:SAMPLE_CHARACTERS] + cut)
        heading = element("h3", swatch(Look.of(index)), " ", arm.name, element("small", f" seed {seed}"))
        articles.append(element("article", heading, body))
    if not articles:
        return join()
    return section(
        "samples",
        "Samples",
        paragraphs("The last text that each arm's first seed wrote; its prompt in grey."),
        element("div", *articles, class_="samples"),
    )


def environment(comparison: Comparison) -> Markup:
    """On what the runs were made: what differs between them, and what one of them says."""
    rows = [
        [Cell(entry.fact), Cell("; ".join(f"{value} ({count} runs)" for value, count in entry.runs.items()))]
        for entry in comparison.environment
    ]
    differs = (
        join(paragraphs("Not the same for all runs:"), table("What differs between the runs", ["fact", "values"], rows))
        if rows
        else paragraphs("The same for all runs, as far as they say.")
    )
    first = next((run for arm in comparison.arms for run in arm.runs), None)
    said: dict[str, str] = {}
    if first is not None:
        try:
            said = _facts(first.folder.read_environments()[-1])
        except UserError as error:
            said = {"environment.json": str(error)}
    own = join(element("h3", "The first run of the first arm"), facts(list(said.items()))) if said else None
    return section("environment", "Environment", differs, own)


def reproduce(comparison: Comparison) -> Markup:
    """The commands."""
    parts = []
    if comparison.command:
        parts += [paragraphs("The runs (those that are finished are skipped):"), command(comparison.command)]
    parts += [
        paragraphs("This page:"),
        command(f"python -m atomiclm.compare {shlex.join(comparison.folders)} --html page.html"),
    ]
    arms = [
        [Cell(name), Cell(element("code", " ".join(overrides) or "as the file has it"))]
        for name, overrides in comparison.study.arms.items()
    ]
    if arms:
        parts += [paragraphs("What makes each arm:"), table("Arms", ["arm", "overrides"], arms)]
    if comparison.unplanned:
        parts.append(element("p", f"Not in the study's plan, and left out: {', '.join(comparison.unplanned)}."))
    return section("reproduce", "How to make it again", *parts)


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """The facts of the last process that worked on a run."""
    processes = environment.get("processes")
    last = processes[-1] if isinstance(processes, list) and processes else environment
    if not isinstance(last, Mapping):
        return {}
    versions, source = last.get("versions"), last.get("source")
    given = {
        key: last.get(key) for key in ("device", "precision", "cpu", "torch_threads", "compiled", "python", "platform")
    }
    if isinstance(versions, Mapping):
        given |= {name: versions.get(name) for name in ("atomiclm", "torch", "numpy")}
    if isinstance(source, Mapping):
        given |= {
            "commit": source.get("commit"),
            "uncommitted changes": source.get("diff_sha256") or source.get("dirty"),
        }
    return {name: str(value) for name, value in given.items() if value is not None}
