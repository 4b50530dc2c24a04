"""Builds what the site shows of the code: the configuration reference from conf/, the API's pages, and the studies."""

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "model", "tokenizer", "data", "optim", "training", "evaluation", "generation", "interop", "comparison", "sweep",
    "tracking",
)  # fmt: skip
SETTING = re.compile(r"( *)(- )?([\w./@ ]+?):(?: +(.*?))??(?: +# (.*))?$")


def on_config(config: MkDocsConfig) -> None:
    studies = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))
    assert config.nav is not None
    config.nav[-1:-1] = [
        {"Configuration reference": [{group: f"reference/{page(group)}"} for group in groups()]},
        {"API": [{f"atomiclm.{name}": f"api/{name}.md"} for name in PACKAGES]},
        {"Studies": ["experiments/README.md", *({name: f"experiments/{name}/README.md"} for name in studies)]},
    ]


def on_files(files: Files, config: MkDocsConfig) -> None:
    package: Any = griffe.load("atomiclm", search_paths=[ROOT])
    pages = {f"reference/{page(group)}": reference(group, package) for group in groups()}
    pages |= {f"api/{name}.md": api(package[name]) for name in PACKAGES}
    for path in (ROOT / "experiments").rglob("*"):
        if path.suffix in (".md", ".svg", ".csv"):
            pages[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ that work on GitHub lead to the copies here."""
    return markdown.replace("](../experiments/", "](experiments/").replace("](docs/", "](")


def groups() -> list[str]:
    """The folders of conf/ that hold options, parents first."""
    folders = {path.parent.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    return sorted(folders - {".", "hydra/sweeper"})


def page(group: str) -> str:
    return group.replace("/", "-") + ".md"


def reference(group: str, package: Any) -> str:
    """A group's page: of each option the file's comment, its class and that docstring's beginning, its settings."""
    options = sorted((ROOT / "conf" / group).glob("*.yaml"))
    choices = ", ".join(f"[{option.stem}](#{option.stem})" for option in options)
    lines = [f"# {group}", "", f"`{group}=OPTION` chooses: {choices}."]
    for option in options:
        text = option.read_text(encoding="utf-8").splitlines()
        lines += ["", f"## {option.stem}", "", *describe(text, group, package)]
    return "\n".join(lines) + "\n"


def describe(text: list[str], group: str, package: Any) -> list[str]:
    intro = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), text)]
    lines = [escape(" ".join(line for line in intro if not line.startswith("@package")))]
    rows, path, arguments = [], [], {}
    for line in text[len(intro) :]:
        if not (found := SETTING.match(line)):
            continue
        indent, item, name, value, comment = found.groups()
        path = [*path[: len(indent) // 2], name]
        if name == "_target_" and len(path) == 1:
            target = value.split()[0].replace("hydra_plugins.atomiclm.", "atomiclm.config.launchers.")
            described = resolve(package, target.removeprefix("atomiclm."))
            arguments = {parameter.name: parameter.annotation for parameter in described.parameters}
            first = described.docstring.value.partition("\n\n")[0] if described.docstring else ""
            shown = f"[`{target}`][{described.path}]" if target.split(".")[1] in PACKAGES else code(target)
            lines += ["", f"{shown}: {' '.join(first.split())}"]
        elif (not name.startswith("_") and path[0] != "defaults") or item:
            key = f"{group}/{name}" if item else ".".join(path)
            kind = code(arguments.get(name, "")) if len(path) == 1 else ""
            rows.append(f"| {code(key)} | {code(value)} | {escape(comment or '')} {kind} |")
    table = ["", "| setting | value | meaning, type |", "| --- | --- | --- |", *rows] if rows else []
    return lines + table


def resolve(package: Any, name: str) -> Any:
    """The class or function itself, where it is defined."""
    return getattr(package[name], "final_target", package[name])


def code(value: Any) -> str:
    return f"`{value}`" if value not in (None, "") else ""


def escape(text: str) -> str:
    return re.sub(r"([|<*_\[\]])", r"\\\1", text)


def api(package: Any) -> str:
    names = sorted(name for name in package.exports or () if not package[name].is_module)
    shown = "\n".join(f"::: {resolve(package, name).path}" for name in names)
    return f"# atomiclm.{package.name}\n\n{package.docstring.value if package.docstring else ''}\n\n{shown}\n"


class Columns(griffe.Extension):
    """Our docstrings describe arguments in two columns; Markdown wants a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"(?m)(?<=\S)\n {8,}(?=\S)", " ", obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^(\w[\w, ]*?) {2,}(?=\S)", r"- **\1** &nbsp; ", text)
