"""The head of a report: tokens of each kind with their names, and whether memory holds the run at all."""

import pytest

from torussim import run
from torussim.errors import ScenarioError
from torussim.report import subtitle, text, verdict
from torussim.scenario import load

SMALL = {"name": "small", "model": {"base": "palm-8b", "layers": 2}, "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]},
         "workload": {"phase": "decode", "batch": 8, "context": 512, "tokens": 2}}
GENERATE = {**SMALL, "workload": {**SMALL["workload"], "phase": "generate"}}


def test_prompt_and_generated_tokens_a_second_are_of_their_own_phases():
    keys = run(GENERATE).keys
    prefill, decode = (run({**SMALL, "workload": {"phase": phase, "batch": 8, "context": 512, **more}})
                       for phase, more in (("prefill", {}), ("decode", {"tokens": 2})))
    assert keys["prompt_tokens_per_s"] == pytest.approx(prefill.tokens_per_s, rel=1e-12)
    assert keys["generated_tokens_per_s"] == pytest.approx(decode.tokens_per_s, rel=1e-12)
    assert keys["tokens_per_s"] == pytest.approx(8 * (512 + 2) / keys["latency_s"], rel=1e-12)
    assert not {"prompt_tokens_per_s", "generated_tokens_per_s"} & decode.keys.keys()


def test_the_report_of_a_generation_names_the_tokens_that_it_counts():
    result = run(GENERATE)
    head = text(result).split("\n\n")[0]
    assert f"{result.prompt_tokens_per_s:,.0f} prompt tokens/s" in head
    assert f"{result.generated_tokens_per_s:,.0f} generated tokens/s" in head
    assert f"{result.tokens_per_s:,.0f} prompt and generated tokens/s" in head and "prompt" not in text(run(SMALL))
    assert "prompt and generated tokens/s" in repr(result)


def test_prompt_and_generated_tokens_can_be_expected_of_a_generation_alone():
    expect = {"prompt_tokens_per_s": 1000, "generated_tokens_per_s": 1000}
    assert [e["got"] is not None for e in run({**GENERATE, "expect": expect}).expect] == [True, True]
    said = "'generated_tokens_per_s' is a result of phase: generate, not of decode: expect tokens_per_s"
    with pytest.raises(ScenarioError, match=said) as caught:
        load({**SMALL, "expect": expect})
    assert [(m.code, m.path) for m in caught.value.mistakes] == [("clash", ("expect", key)) for key in expect]


@pytest.mark.parametrize("share, alone", [(1.001, False), (0.5, True)])
def test_what_does_not_fit_is_said_in_the_headline_and_no_context_where_the_weights_alone_do_not(share, alone):
    """`share`: HBM over the weights."""
    weights = run(SMALL).memory["weights"]
    result = run({**SMALL, "chip": {"base": "tpu-v4", "hbm_bytes": share * weights}})
    assert not result.memory["fits"] and text(result).startswith("DOES NOT FIT in memory: ")
    assert "DOES NOT FIT" in repr(result).splitlines()[0]
    assert subtitle(result).endswith("DOES NOT FIT in memory")
    assert verdict(result).startswith("DOES NOT FIT in memory: ") and "a decode step would take" in verdict(result)
    told = text(result, verbose=True)
    assert ("longest context for" in told, "the weights alone do not fit" in told) == (not alone, alone)


def test_what_fits_has_the_answer_and_its_name_alone_as_headline():
    result = run(SMALL)
    assert text(result).splitlines()[:2] == [verdict(result), "small"]
    assert "longest context" in text(result) and "FIT" not in repr(result) + text(result, verbose=True)
    assert "FIT" not in subtitle(result)
