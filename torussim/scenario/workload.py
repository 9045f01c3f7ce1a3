"""The workload of a scenario, and the expected values of its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torussim import models, resolve
from torussim.described import Form, Key, of_form
from torussim.models import Model
from torussim.result_keys import KEYS
from torussim.scenario import forms, values
from torussim.scenario.balance import describe_balance, read_balance
from torussim.scenario.forms import MAX_PASSES
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import Misread, quote
from torussim.workload import UNIFORM, Workload

PATH = ("workload",)
MAX_DRAFTS = 100  # steps of a draft model before a step of the large one


@dataclass(frozen=True)
class Expected:
    """A measured value that the result is compared with: `within` is the allowed |got / value - 1|."""

    what: str
    value: float
    within: float | None
    source: str


def read_workload(notes: Notes, given: Any, draft_model: Model | None = None) -> tuple[str | None, Workload | None]:
    """Return the phase, if it is valid, and the workload, if all values that the passes need are valid.

    `draft_model` is the one of the file, already read; None if there is none or it is not valid.
    """
    section = notes.section(forms.WORKLOAD, given, PATH, "workload")
    phase = section["phase"] if section.sound("phase") else None
    if "tokens" in section.given and phase == "prefill":
        notes.wrong((*PATH, "tokens"), "tokens: a prefill makes no tokens: leave it out, or write phase: generate", at_key=True,
                    code="clash")
    if "chunk" in section.given and phase == "decode":
        notes.wrong((*PATH, "chunk"), "chunk: a decode has no prompt to cut: leave it out, or write phase: prefill", at_key=True,
                    code="clash")
    if section["cached"] and phase == "decode":
        notes.wrong((*PATH, "cached"),
                    f"cached: a decode starts with its context in the cache: add the {quote(section['cached'])} to context, and "
                    f"leave it out", at_key=True, code="clash")
    drafted = phase is None or _is_draft(notes, section, phase)
    if not section.sound("phase", "batch", "context", "chunk", "draft", "accepted") or not drafted:
        return phase, None
    balance = read_balance(notes, section["balance"])
    if balance is None:
        return phase, None
    chunk = section["chunk"]
    if chunk is not None and phase != "decode" and not _is_chunk(notes, chunk, section["context"]):
        chunk = None
    read = {"chunk": chunk, "accepted": section["accepted"] or 0.0, "balance": balance, "draft_model": draft_model}
    return phase, Workload(**{**section.values, **read})


def _is_draft(notes: Notes, section: Section, phase: str) -> bool:
    """Return whether `draft` and `accepted` agree with the phase and with each other. Note a mistake if not."""
    draft, accepted, before = section["draft"], section["accepted"], len(notes.mistakes)
    for key in ("draft", "accepted"):
        if key in section.given and phase == "prefill":
            notes.wrong((*PATH, key), f"{key}: a prefill has no decode steps: leave it out, or write phase: generate",
                        at_key=True, code="clash")
    if phase == "prefill" or not section.sound("draft", "accepted"):
        return len(notes.mistakes) == before
    if draft and accepted is None:
        notes.wrong((*PATH, "accepted"), f"workload lacks 'accepted', the mean number of accepted tokens of the draft of "
                                         f"{draft}: write a number from 0 to {draft}", code="missing")
    elif accepted is not None and accepted > draft:
        remedy = f"give at most {draft}" if draft else "give draft, the number of proposed tokens, or leave accepted out"
        notes.wrong((*PATH, "accepted"), f"accepted: '{accepted:g}' is more than the draft of {draft}: {remedy}", code="clash")
    if "draft_model" in section.given and not draft:
        notes.wrong((*PATH, "draft_model"), "draft_model: it makes no tokens without a draft: give draft and accepted, or leave "
                                            "it out", at_key=True, code="clash")
    elif "draft_model" in section.given and draft > MAX_DRAFTS:
        notes.wrong((*PATH, "draft"), f"draft: '{draft}' steps of a draft model are more than can be run: give at most "
                                      f"{MAX_DRAFTS}", code="limit")
    return len(notes.mistakes) == before


def _is_chunk(notes: Notes, chunk: int, context: int) -> bool:
    """Return whether a context can be cut into such chunks. Note a mistake if not."""
    count = -(-context // chunk)
    if chunk > context:
        notes.wrong((*PATH, "chunk"),
                    f"chunk: '{chunk}' is more than the context of {context}: give at most {context}, or leave it out",
                    code="clash")
    elif count > MAX_PASSES:
        notes.wrong((*PATH, "chunk"),
                    f"chunk: '{chunk}' cuts a context of {context:,} into {count:,} passes: at most {MAX_PASSES:,} can be run: "
                    f"give {-(-context // MAX_PASSES):,} or more", code="limit")
    return chunk <= context and count <= MAX_PASSES


def phases_of(phase: str | None) -> tuple[str, ...]:
    """Return the phases that run."""
    return {None: (), "generate": ("prefill", "decode")}.get(phase, (str(phase),))


def describe_workload(workload: Workload) -> dict[str, Any]:
    """Return the record of a workload, without the keys that its phase does not use."""
    useless = {"prefill": {"tokens", "host"}, "decode": {"chunk", "cached", "host"}}.get(workload.phase, {"host"})
    if workload.phase == "prefill" or not workload.draft:
        useless |= {"draft", "accepted"}
    shown = vars(workload) | ({} if workload.balance == UNIFORM else {"balance": describe_balance(workload.balance)})
    shown |= {"draft_model": models.describe(workload.draft_model)} if workload.draft_model else {}
    useless |= {"balance"} if workload.balance == UNIFORM else set()
    return {key: value for key, value in shown.items() if value is not None and key not in useless}


def read_expect(notes: Notes, given: Any, phase: str | None, bare: bool) -> tuple[Expected, ...]:
    """Return the expected values of the result."""
    if not isinstance(given, Mapping):
        example = "{step_s: {value: 93.8 ms, within: 0.10}}"
        notes.wrong(("expect",), f"expect: {quote(given)} is not a mapping: write one such as {example}")
        return ()
    made = [_read_expected(notes, what, value) for what, value in given.items() if _is_produced(notes, what, phase, bare)]
    return tuple(one for one in made if one is not None)


def _is_produced(notes: Notes, what: str, phase: str | None, bare: bool) -> bool:
    """Return whether the result will have this key. Note a mistake if not."""
    reason = None
    if what not in forms.RESULTS:
        reason = resolve.unknown(what, forms.RESULTS, "result that can be expected")
    elif bare and what != "makespan_s":
        reason = f"{quote(what)} is not a result of a program without a model: expect makespan_s"
    elif what in forms.OF_GENERATE and phase not in (None, "generate"):
        better = "leave it out" if (what, phase) == ("prefill_s", "decode") else f"expect {forms.OF_GENERATE[what]}"
        reason = f"{quote(what)} is a result of phase: generate, not of {phase}: {better}"
    if reason:
        notes.wrong(("expect", what), f"expect: {reason}", at_key=True, code="clash" if what in forms.RESULTS else "unknown-key")
    return reason is None


def _read_expected(notes: Notes, what: str, given: Any) -> Expected | None:
    """Return one expected value: {value, within, source}, or the value alone."""
    path, form = ("expect", what), expected_form(what)
    if isinstance(given, Mapping):
        section = notes.section(form, given, path, what)
        return Expected(what, section["value"], section["within"], section["source"]) if section.sound() else None
    try:
        if given is None:
            values.refuse(values.EMPTY, "empty")
        return Expected(what, form["value"].read(given), None, "")
    except Misread as error:
        notes.add(list(error.found), path, f"{what}: ")
        return None


def expected_form(what: str) -> Form:
    """Return the keys of the expected value of a key of the result."""
    unit = forms.RESULTS[what]
    reader = values.quantity(unit) if unit else values.number()
    return {"value": Key(reader, needed=True, example={"s": "93.8 ms", "B": "16 GiB"}.get(unit, 0.76),
                         about="The expected value."),
            **forms.EXPECT}


def expect_schema() -> dict[str, Any]:
    """Return the schema of `expect`: a value for each key, or {value, within, source}."""
    about = {key.path: key.about for key in KEYS if key.expected}
    both = {what: {"anyOf": [expected_form(what)["value"].read.schema, of_form(expected_form(what))], "description": about[what]}
            for what in forms.RESULTS}
    return {"type": "object", "properties": both, "additionalProperties": False}


def describe_expected(expected: Expected) -> dict[str, Any]:
    """Return the record of an expected value."""
    source = {"source": expected.source} if expected.source else {}
    return {"value": expected.value, **source} | ({} if expected.within is None else {"within": expected.within})
