"""What else the model might have written: the likeliest tokens at each place, and a table of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text
from torch import Tensor


@dataclass(frozen=True)
class Likelihood:
    """How likely a token was: by the model (softmax of its scores), and as drawn (temperature and filters applied)."""

    token: int
    text: str
    model: float
    drawn: float


@dataclass(frozen=True)
class Choice(Likelihood):
    """A token that was drawn, and the likeliest tokens in its place, itself perhaps among them."""

    alternatives: list[Likelihood]


def choice_of(token: int, model: Tensor, drawn: Tensor, count: int, text_of: Callable[[int], str]) -> Choice:
    """``token`` and its ``count`` alternatives, with probabilities (vocab_size,) by the model and as drawn."""

    def likelihood(one: int) -> tuple[int, str, float, float]:
        return one, text_of(one), model[one].item(), drawn[one].item()

    likeliest = model.topk(min(count, len(model))).indices.tolist()
    return Choice(*likelihood(token), [Likelihood(*likelihood(one)) for one in likeliest])


def table_of(choices: Sequence[Choice]) -> Table:
    """A line for each token; the token that was drawn is bold among its alternatives."""
    table = Table(box=None, pad_edge=False)
    table.add_column("token", no_wrap=True)
    table.add_column("model", justify="right")
    table.add_column("drawn", justify="right")
    table.add_column("likeliest by the model (model > drawn)")
    for choice in choices:
        cells = Text()
        for each in choice.alternatives:  # without a blank inside, so that no line is broken there
            cell = f"{_shown(each.text)}={_percent(each.model)}>{_percent(each.drawn)}"
            cells.append(cell, "bold" if each.token == choice.token else "").append("  ")
        table.add_row(_shown(choice.text), _percent(choice.model), _percent(choice.drawn), cells)
    return table


def _shown(token: str) -> str:
    return repr(token).replace(" ", "\N{MIDDLE DOT}")


def _percent(probability: float) -> str:
    if 0 < probability < 0.001:
        return "<0.1%"
    return f"{probability:.1%}" if probability else "-"
