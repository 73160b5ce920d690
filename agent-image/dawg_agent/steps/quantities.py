"""Kubernetes' quantities as numbers."""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?")
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def amount(quantity: str) -> float:
    """``250m`` → 0.25, ``1Ki`` → 1024; ValueError for what is no quantity."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity")
    number, unit = found.groups()
    if unit is None:
        return float(number)
    factor = _DECIMAL.get(unit) or _BINARY.get(unit)
    return float(number) * factor if factor else float(f"{number}{unit}")
