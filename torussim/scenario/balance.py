"""The balance of a mixture's load among its experts: uniform, by Zipf's law, or measured shares, in the file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torussim import files
from torussim.errors import TorusSimError
from torussim.models import Model
from torussim.scenario import forms
from torussim.scenario.layout import Asked
from torussim.scenario.notes import Notes
from torussim.scenario.values import Misread, quote, rows_of_shares
from torussim.workload import UNIFORM, Balance

PATH = ("workload", "balance")


def read_balance(notes: Notes, given: Any) -> Balance | None:
    """Return the balance of the load; None if it is wrong."""
    if given == "uniform":
        return UNIFORM
    if isinstance(given, list):
        given = {"shares": given}
    if not isinstance(given, Mapping):
        notes.wrong(PATH, f"balance: {quote(given)} is no balance: write uniform, {{zipf: 1.0}} or {{shares: [...]}}")
        return None
    section = notes.section(forms.BALANCE, given, PATH, "balance")
    if section.given >= {"zipf", "shares"}:
        notes.wrong((*PATH, "zipf"), "zipf: shares are given too: leave one of them out", at_key=True, code="clash")
        return None
    shares = section["shares"]
    if not section.sound():
        return None
    try:
        if isinstance(shares, str):
            shares = rows_of_shares(files.read(notes.beside / shares, "shares", notes.trust.most).value)
        return Balance(section["zipf"], shares)
    except Misread as error:
        notes.wrong((*PATH, "shares"), f"shares: {quote(section['shares'])}: {error}", code=error.found[0].code)
    except TorusSimError as error:
        notes.raised((*PATH, "shares"), error, "shares: ")
    return None


def describe_balance(balance: Balance) -> Any:
    """Return the form in which a file gives this balance."""
    if balance.shares:
        return {"shares": [list(row) for row in balance.shares]}
    return {"zipf": balance.zipf} if balance.zipf else "uniform"


def check_experts(notes: Notes, model: Model, layouts: Mapping[str, Asked]) -> None:
    """Note keys of a layout that are for experts, if the model has none."""
    for asked in {one.path: one for one in layouts.values()}.values():
        for key, default in (("experts", "all"), ("capacity_factor", None)):
            if not model.experts and getattr(asked.layout, key) != default:
                notes.wrong((*asked.path, key), f"{key}: {model.name} has no experts: leave it out", at_key=True, code="clash")


def check_balance(notes: Notes, model: Model, balance: Balance) -> bool:
    """Return whether a balance fits the model. Note a mistake if the model has no experts, or others, or other layers."""
    layers, before = model.mixtures, len(notes.mistakes)
    if balance == UNIFORM:
        return True
    if not model.experts:
        notes.wrong(PATH, f"balance: {model.name} has no experts: leave it out", at_key=True, code="clash")
    elif balance.shares and len(balance.shares) not in (1, layers):
        notes.wrong((*PATH, "shares"), f"shares: {len(balance.shares)} lists for {layers} mixture layers: give one for each of "
                    "them, or one for all", code="clash")
    elif wrong := [row for row in balance.shares if len(row) != model.experts]:
        notes.wrong((*PATH, "shares"), f"shares: {len(wrong[0])} shares for {model.experts} experts: give one for each",
                    code="clash")
    return len(notes.mistakes) == before
