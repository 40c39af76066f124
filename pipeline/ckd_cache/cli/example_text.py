"""How ``ckd-cache show`` draws an example."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ckd_cache.cli.console import counted, output
from ckd_cache.inspection.decode import printable
from ckd_cache.inspection.views import ExampleView, Fate, Prediction, SlotView

__all__ = ["print_example"]

_STYLES: dict[Fate, str] = {"masked": "bold yellow", "random": "bold red", "kept": "bold green"}
_GOLD_STYLE = "bold"
_SMALL = 0.0005
_INDENT = 2
_GAP = 2
_NAME_WIDTH = 16
_FIGURES = {"weight": 6, "p(gold)": 7, "rank": 6, "tail": 5}
_BETWEEN = "   "


def print_example(view: ExampleView, slots: int) -> None:
    """Print an example and its first ``slots`` slots."""
    console = output()
    console.print(
        f"Example {view.example} of set {view.set}: part {view.part}, split {view.split}, "
        f"{counted(view.tokens, 'token')}, {counted(len(view.slots), 'slot')}"
    )
    for document in view.documents:
        console.print(
            Padding(
                f"document {printable(document.id)}, characters {document.first_character:,} to "
                f"{document.last_character:,}; source {document.source}, genre {document.genre}",
                (0, 0, 0, 2),
            )
        )
    console.print()
    console.print(_text(view))
    console.print()
    console.print(_legend())
    for slot in view.slots[:slots]:
        _print_slot(console, slot)
    hidden = len(view.slots) - slots
    if hidden > 0:
        console.print()
        console.print(
            f"{counted(hidden, 'more slot')}; --slots {len(view.slots)} lists all.",
            style="dim",
        )


def _text(view: ExampleView) -> Text:
    text = Text()
    for piece in view.pieces:
        if piece.slot is None:
            text.append(_lines(piece.text))
            continue
        slot = view.slots[piece.slot]
        shown = piece.text.lstrip()
        text.append(_lines(piece.text[: len(piece.text) - len(shown)]))
        text.append(_mark(slot, printable(shown) or slot.gold), style=_STYLES[slot.fate])
    text.rstrip()
    return text


def _mark(slot: SlotView, gold: str) -> str:
    if slot.fate == "masked":
        return f"[{slot.slot}:{gold}]"
    if slot.fate == "kept":
        return f"[{slot.slot}:={gold}]"
    return f"[{slot.slot}:{gold}\N{RIGHTWARDS ARROW}{slot.seen}]"


def _legend() -> Text:
    return Text.assemble(
        ("[n:gold] masked", _STYLES["masked"]),
        "   ",
        ("[n:gold\N{RIGHTWARDS ARROW}seen] replaced by a random token", _STYLES["random"]),
        "   ",
        ("[n:=gold] kept", _STYLES["kept"]),
    )


def _lines(text: str) -> str:
    """The text with its line breaks and nothing else that could drive a terminal."""
    return "\n".join(printable(line) for line in text.replace("\t", "    ").split("\n"))


def _print_slot(console: Console, slot: SlotView) -> None:
    seen = f", the models see {slot.seen}" if slot.fate == "random" else ""
    console.print()
    console.print(
        Text.assemble(
            f"Slot {slot.slot}, token {slot.position}: gold ",
            (slot.gold, _GOLD_STYLE),
            f", {slot.fate}{seen}",
        )
    )
    rows = [(one.name, one) for one in slot.teachers]
    if slot.target is not None:
        rows.append((f"= {slot.target.name}", slot.target))
    console.print(Padding(_table(rows, slot.gold_id, console.width - _INDENT), (0, 0, 0, _INDENT)))


def _table(rows: Sequence[tuple[str, Prediction]], gold: int, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    table.add_column("", overflow="fold", max_width=_NAME_WIDTH)
    left = width - min(_NAME_WIDTH, max((cell_len(label) for label, _ in rows), default=0)) - _GAP
    for name, size in _FIGURES.items():
        table.add_column(name, justify="right", width=size, no_wrap=True)
        left -= size + _GAP
    table.add_column("most probable tokens", overflow="fold")
    for label, one in rows:
        table.add_row(
            label,
            "" if one.weight is None else f"{one.weight:.3f}",
            _probability(one.gold_probability),
            "-" if one.gold_rank is None else f"{one.gold_rank:,}",
            _probability(one.tail),
            _tokens(one, gold, left),
        )
    return table


def _tokens(one: Prediction, gold: int, width: int) -> Text:
    """Tokens with their probabilities, broken into lines between them and not inside."""
    text = Text()
    used = 0
    for token in one.top:
        shown = f"{token.token} {_probability(token.probability)}"
        size = cell_len(shown)
        if used and used + len(_BETWEEN) + size > width:
            text.append("\n")
            used = 0
        elif used:
            text.append(_BETWEEN)
            used += len(_BETWEEN)
        text.append(shown, _GOLD_STYLE if token.id == gold else "")
        used += size
    return text


def _probability(value: float) -> str:
    return f"{value:.3f}" if value >= _SMALL or value == 0 else f"{value:.0e}"
