"""What Tune runs for a trial, kept by the driver instead of asked of Ray three times a trial."""

from __future__ import annotations

from typing import Any

from ray.tune import registry


class Registered(registry._Registry):
    """Tune's registry; what was registered here is not fetched from Ray and unpickled again."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, str], Any] = {}

    def register(self, category: str, key: str, value: Any) -> None:
        super().register(category, key, value)
        self._known[category, key] = value

    def contains(self, category: str, key: str) -> bool:
        return (category, key) in self._known or super().contains(category, key)  # type: ignore[no-untyped-call]

    def get(self, category: str, key: str) -> Any:
        if (category, key) in self._known:
            return self._known[category, key]
        return super().get(category, key)  # type: ignore[no-untyped-call]
