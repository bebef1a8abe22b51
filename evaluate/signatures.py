"""How an operator of tensors may be called, by its own schema: checked before anything runs.

torch takes an integer for a type or a layout, and casts it unseen: the scorer would compute with
quantised or sparse tensors that nobody asked for, or crash. So each argument must be of its kind.
"""

from functools import cache
from typing import Any

BY_NAME = {
    "ScalarType": "dtype",
    "Device": "device",
    "Layout": "layout",
    "MemoryFormat": "memory_format",
    "str": "text",
}
"""Types whose values are given by name: the schema's word, and the container's."""
NUMBERS = {"int": int, "float": int | float, "number": int | float, "bool": bool}
MUST_BE_FALSE = {
    "dropout": "train", "alpha_dropout": "train", "feature_dropout": "train",
    "feature_alpha_dropout": "train", "rrelu": "training", "batch_norm": "training",
    "gru": "train", "lstm": "train", "rnn_relu": "train", "rnn_tanh": "train",
}  # fmt: skip
"""Operators that draw at random or change their statistics unless this argument is false."""
MUST_BE_ZERO = {"scaled_dot_product_attention": "dropout_p"}
"""Operators that draw at random unless this argument is zero."""


def objection(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """Return what is wrong with a call of `aten.<base>.<overload>`; empty where nothing is.

    Args:
        name: of an operator whose base stands in the list of operators.
        args: as the container encodes them, already checked to be arguments at all.
        kwargs: the same.
    """
    _, base, overload = name.split(".")
    expected = parameters(base, overload)
    if expected is None:
        import torch

        return f"is not an operator on tensors in torch {torch.__version__}"
    if len(args) > len(expected):
        return f"takes {len(expected)} arguments, not {len(args)}"
    given = dict(zip(expected, args, strict=False))
    if unknown := [key for key in kwargs if key not in expected or key in given]:
        return f"has no argument {unknown[0]!r}, or has it twice"
    given |= kwargs
    for key, (kind, required) in expected.items():
        if key in given and not _fits(given[key], kind):
            return f"expects {kind} for {key}"
        if required and key not in given:
            return f"needs {key}"
    return _random(base.removesuffix("_"), given)


def _random(base: str, given: dict[str, Any]) -> str:
    switch, share = MUST_BE_FALSE.get(base), MUST_BE_ZERO.get(base)
    if switch and given.get(switch) is not False:
        return "is called in training mode: pass training=self.training"
    if share and given.get(share, 0.0) != 0:
        return f"drops at random: pass {share}=0.0 unless self.training"
    return ""


@cache
def parameters(base: str, overload: str) -> dict[str, tuple[str, bool]] | None:
    """Return each parameter's type and whether it is required; None: no operator on tensors."""
    import torch  # here: whoever only hands trials out needs none of it

    packet = getattr(torch.ops.aten, base, None)
    if packet is None or overload not in packet.overloads():
        return None
    schema = getattr(packet, overload)._schema
    kinds = [str(value.real_type) for value in (*schema.arguments, *schema.returns)]
    if not any("Tensor" in kind and "Dict" not in kind for kind in kinds):
        return None
    if any(a.is_out for a in schema.arguments):  # it resizes what it is given
        return None
    if overload.startswith("prim_"):  # of TorchScript alone; some crash
        return None
    return {
        a.name: (str(a.real_type), not a.has_default_value() and str(a.real_type) != "Generator")
        for a in schema.arguments
    }


def _fits(value: Any, kind: str) -> bool:
    """Return whether an encoded argument is of the schema's type."""
    if kind.startswith("Optional["):
        return value is None or _fits(value, kind[9:-1])
    if kind.startswith("List["):
        inner = kind[5:-1]
        if isinstance(value, list):
            return all(_fits(item, inner) for item in value)
        return _fits(value, inner) or _is(value, "node")  # one number stands for all
    if kind in BY_NAME:
        return _is(value, BY_NAME[kind])
    if kind not in (*NUMBERS, "Tensor"):
        return False
    if _is(value, "node") or isinstance(value, NUMBERS.get(kind, int | float)):
        return True
    return kind not in ("bool", "int") and _is(value, "float")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, dict) and kind in value
