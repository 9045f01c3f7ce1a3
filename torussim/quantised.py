"""The dtypes of a quantised model: quantization_config of a Hugging Face config.json -> the dtype of each kind of tensor.

Scales of groups are 16 bits, zero points 4 bits a group (chips.DTYPE_BYTES). Formats: transformers, utils/quantization_config.py;
compressed-tensors, quant_config.py; OCP Microscaling Formats 1.0; bitsandbytes: arXiv 2305.14314, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torussim.errors import ModelError
from torussim.sourced import quote

# Modules that are small, are not run, or have a dtype of their own.
APART = re.compile(r"lm_head|embed|norm|vision|visual|multi_modal|mtp|(gate|router)\W*$")
KNOWN = "fp8, fbgemm_fp8, compressed-tensors, gptq, awq, mxfp4, bitsandbytes, modelopt"


def dtypes(config: Mapping[str, Any], *, mixture: bool) -> tuple[dict[str, str], list[str], list[str]]:
    """Return the dtypes by the names of `models.Model.dtypes`, mistakes, and remarks; all empty for a model in bf16.

    Embedding and logits stay in bf16, unless the file says that lm_head is quantised. Of a mixture whose attention is listed as
    not quantised, only the experts are.
    """
    given = config.get("quantization_config") or config.get("compression_config")
    if not given:
        wide = config.get("torch_dtype", config.get("dtype")) == "float32"
        return {}, [], ["the weights are stored in float32, and run in bf16 unless the layout says otherwise"] if wide else []
    if not isinstance(given, Mapping):
        return {}, [f"quantization_config: {quote(given)} is not a mapping"], []
    method = given.get("quant_method", "bitsandbytes" if "load_in_4bit" in given or "load_in_8bit" in given else None)
    try:
        weights, cache = _weights(str(method), given), _cache(given)
    except ModelError as error:
        return {}, [f"quantization_config: {error}"], []
    caches = {"kv_cache": cache} if cache else {}
    if weights is None:
        return caches, [], []
    kept = _kept(given)
    attention = [one for one in kept if ("attn" in one or "attention" in one) and "norm" not in one]
    others = [one for one in kept if one not in attention and not APART.search(one)]
    remarks = []
    if mixture and attention:
        found = {"experts": weights}
        others = [one for one in others if "shared" not in one and "mlp" not in one and "feed_forward" not in one]
    else:
        found = {"weights": weights} | ({} if given.get("lm_head") is True else {"embedding": "bf16"})
        others += attention
    if others:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        remarks.append(f"modules that are not quantised are read as {weights} all the same: {shown}")
    return found | caches, [], remarks


def _weights(method: str, given: Mapping[str, Any]) -> str | None:
    """Return the dtype of the quantised weights; None if there are none."""
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("gptq", "awq"):
        bits = given.get("bits", given.get("w_bit", 4))
        group = given.get("group_size", given.get("q_group_size", 128))
        zeros = given.get("zero_point", True) if method == "awq" else given.get("sym", True) is False
        return _integers(bits, group, bool(zeros))
    if method == "bitsandbytes":
        if given.get("load_in_8bit") is True:
            return "int8"
        if given.get("load_in_4bit") is True:  # blocks of 64 with a scale in f32, or in 8 bits and f32 for each 256 of them
            return "int4/128" if given.get("bnb_4bit_use_double_quant") is True else "int4/32"
        return None
    if method == "modelopt":
        algorithm = str(given.get("quant_algo")).upper()
        found = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}.get(algorithm)
        if found is None:
            raise ModelError(f"quant_algo {quote(given.get('quant_algo'))} cannot be read: FP8, NVFP4 or INT8 can")
        return found
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed(given)
    raise ModelError(f"quant_method {quote(None if method == 'None' else method)} cannot be read: only {KNOWN}; leave "
                     "quantization_config out and give layout.weights")


def _cache(given: Mapping[str, Any]) -> str | None:
    """Return the dtype of the cache, if it is given: a scheme as of weights, or a word for fp8."""
    scheme = given.get("kv_cache_scheme")
    if isinstance(scheme, Mapping):
        return _scheme(scheme)
    return "fp8" if scheme in ("static", "dynamic") or str(given.get("kv_cache_quant_algo")).upper() == "FP8" else None


def _compressed(given: Mapping[str, Any]) -> str | None:
    """Return the dtype of the weights in the format of compressed-tensors; None if there is none."""
    groups = given.get("config_groups")
    parts = list(groups.values()) if isinstance(groups, Mapping) else []
    found = {_scheme(part["weights"]) for part in parts if isinstance(part, Mapping) and isinstance(part.get("weights"), Mapping)}
    if len(found) > 1:
        raise ModelError(f"config_groups of several dtypes ({', '.join(sorted(found))}) cannot be read: give the fields of the "
                         "model in place of the file, with its dtypes")
    return next(iter(found), None)


def _scheme(scheme: Mapping[str, Any]) -> str:
    """Return the dtype of a scheme: num_bits, type, group_size, symmetric."""
    bits, kind, group = scheme.get("num_bits"), scheme.get("type", "int"), scheme.get("group_size")
    if kind == "float" and bits in (4, 8):
        return "fp8" if bits == 8 else "nvfp4" if group in (16, None) else "mxfp4"
    if kind != "int":
        raise ModelError(f"{quote(bits)} bits of type {quote(kind)} cannot be read: float and int of 8 or 4 bits can")
    return _integers(bits, group, scheme.get("symmetric", True) is False)


def _integers(bits: Any, group: Any, zeros: bool) -> str:
    """Return the dtype of integers with a scale, and a zero point if `zeros`, for each `group` of them."""
    if bits not in (4, 8):
        raise ModelError(f"{quote(bits)} bits cannot be read: 4 or 8 can")
    if group in (None, -1, 0):
        return f"int{bits}"
    if isinstance(group, bool) or not isinstance(group, int) or group < 1:
        raise ModelError(f"group_size: {quote(group)} is not a whole number, 1 or more")
    return f"int{bits}/{group}{'z' if zeros else ''}"


def _kept(given: Mapping[str, Any]) -> list[str]:
    """Return the modules that are not quantised."""
    keys = ("modules_to_not_convert", "ignore", "ignored_layers", "llm_int8_skip_modules", "exclude_modules")
    return [str(one) for key in keys if isinstance(given.get(key), list) for one in given[key]]
