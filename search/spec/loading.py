"""Reading a spec: from a YAML file and overrides to a checked SearchSpec, or all of its faults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import (
    ValidationError,
)

from search.errors import BadInput
from search.spec.anchor import anchor
from search.spec.checks import check
from search.spec.spec import SearchSpec
from trainable.base.reading import Document, read


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Read and check a spec, with `a.b=value` overrides.

    Raises:
        BadInput: every fault of the spec, one line each.
    """
    return validate(read(path), overrides, path.parent)


def validate(
    document: Document, overrides: Sequence[str] = (), folder: Path = Path()
) -> SearchSpec:
    """Check a spec that was read, with `a.b=value` overrides; its paths are from `folder`.

    Raises:
        BadInput: every fault of the spec, one line each.
    """
    for assignment in overrides:
        document.override(assignment)
    anchor(document.data, folder)
    try:
        spec = SearchSpec.model_validate(document.data)
    except ValidationError as error:
        raise document.explain(error, SearchSpec) from error
    if faults := [document.fault(where, message) for where, message in check(spec)]:
        raise BadInput(*faults)
    return spec
