"""How things are written for people."""

from __future__ import annotations

from ruamel.yaml import YAML

from search.answer.describe import yaml_text


def test_a_mapping_as_yaml_reads_back_as_it_was() -> None:
    content = {
        "one": 1,
        "none": None,
        "word": "digits",
        "quoted": "a, b: [c",
        "long": "word " * 60,
        "inner": {"d": 1, "e": {"x": 2}},
        "list": [1, 2],
        "empty": {},
        "true": True,
    }
    text = yaml_text(content)
    assert YAML(typ="safe").load(text) == content
    assert "none: null\n" in text and not text.startswith("{")
