"""What is varied in a sweep: a name, and the fields of product and mandate that are other than in the base."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backtest.products import Product
from engine import Mandate
from engine.mandate import make_spec
from risk import DataError

__all__ = ["BASE", "Variant", "check_names", "read_variants", "varied"]

BASE = "base"
"""Name of the product as it is."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
ROOTS = {"product": Product, "mandate": Mandate}


@dataclass(frozen=True)
class Variant:
    """One run of a sweep.

    Attributes
    ----------
    name : str
        Letters, digits and ``._+-``: it names the run's folder.
    changes : mapping
        Fields by dotted name, as ``mandate.costs.half_spread_bps``, or nested as in a TOML file.
    note : str
        What a reader of the table should know.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def check_names(variants: Sequence[Variant], taken: Iterable[str] = ()) -> None:
    """Check that every variant has a name of its own that can be a folder's.

    Raises
    ------
    DataError
        If a name has a slash or another sign that is not allowed, appears twice, or is one of those `taken`.
    """
    seen: set[str] = set()
    for variant in variants:
        name = variant.name
        if not NAME.fullmatch(name) or name.endswith(".partial"):
            raise DataError(
                f"variant {name!r}: the name is a folder's; use letters, digits and ._+- alone, a letter or digit first, and do not "
                "end in .partial."
            )
        if name in taken:
            raise DataError(f"variant {name!r}: the name is that of a file beside the runs; give another.")
        if name in seen:
            raise DataError(f"variant {name!r} is there twice; give every variant a name of its own.")
        seen.add(name)


def varied(product: Product, mandate: Mandate, variant: Variant) -> tuple[Product, Mandate]:
    """Return the terms of a variant, checked like those of a file.

    Raises
    ------
    DataError
        If a field is unknown, given twice or has a value that is not allowed.
    """
    source = f"variant {variant.name!r}"
    changes = _nested(variant.changes, source)
    unknown = sorted(set(changes) - set(ROOTS))
    if unknown:
        raise DataError(
            f"{source}: unknown field `{unknown[0]}`; a field begins with {' or '.join(f'{r}.' for r in ROOTS)}"
        )
    for root in changes:
        if not isinstance(changes[root], Mapping):
            raise DataError(
                f"{source}: `{root}` = {changes[root]!r} is no field; give one of its own, as `{root}.name`."
            )
    terms, promised = changes.get("product", {}), changes.get("mandate", {})
    if "mandate" in terms:
        raise DataError(
            f"{source}: `product.mandate` names a file; vary fields of the mandate, or sweep another product."
        )
    return (
        make_spec(Product, _changed(product, terms, "product", source), f"{source}, product"),
        make_spec(Mandate, _changed(mandate, promised, "mandate", source), f"{source}, mandate"),
    )


def _nested(changes: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return changes as nested tables, whatever mixture of dotted names and tables they were given in."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        *path, last = str(name).split(".")
        inner = {last: value}
        for step in reversed(path):
            inner = {step: inner}
        _merge(found, inner, source)
    return found


def _merge(into: dict[str, Any], table: Mapping[str, Any], source: str, path: str = "") -> None:
    """Add a table to another one, inner tables by inner tables."""
    for name, value in table.items():
        where = f"{path}{name}"
        if isinstance(value, Mapping) and isinstance(into.setdefault(name, {}), dict):
            _merge(into[name], value, source, f"{where}.")
        elif into.get(name, {}) != {}:
            raise DataError(f"{source}: `{where}` is given twice; give every field once.")
        else:
            into[name] = value


def _changed(spec: BaseModel, changes: Mapping[str, Any], path: str, source: str) -> dict[str, Any]:
    """Return a specification as a record with some fields other than they are."""
    record = spec.model_dump()
    for name, value in changes.items():
        if name not in record:
            raise DataError(f"{source}: unknown field `{path}.{name}`; known are {', '.join(record)}.")
        current = getattr(spec, name)
        within = isinstance(current, BaseModel) and isinstance(value, Mapping)
        record[name] = _changed(current, value, f"{path}.{name}", source) if within else value
    return record


def read_variants(path: Path) -> list[Variant]:
    """Return the variants of a TOML file: a table for each, its fields dotted; ``note`` is free text.

    The first one is the product as it is, named `BASE`.

    Raises
    ------
    DataError
        If the file cannot be read, is not valid TOML, or holds no variant.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Give `execution`, `capacity` or a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: is not valid TOML ({error}).") from error
    found = [Variant(BASE)]
    for name, table in record.items():
        if not isinstance(table, dict):
            raise DataError(f"{path}: `{name}` = {table!r} is no variant; write [{name}] and its fields below it.")
        note = table.pop("note", "")
        found.append(Variant(name, table, str(note)))
    if len(found) == 1:
        raise DataError(
            f"{path}: holds no variant; write a table for each, as [wide] and mandate.style_limit = 0.2 below it."
        )
    return found
