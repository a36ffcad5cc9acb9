"""The READMEs against what they speak of: links, commands, specs, code, and the tree of rooms."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from support.paths import ROOT
from support.rooms import MODULES, PACKAGES, ROOMS

from cluster.cli import cli
from cluster.hosts.inventory import load_inventory
from search.spec.loading import load_spec

PAGES = [ROOT / "README.md", *(ROOT / package / "README.md" for package in PACKAGES)]
MOST_LINES = 250  # of README.md
HEADING = re.compile(r"^(#+) (.+)$", re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        found = lines[start].removeprefix("```").strip()
        if found == language:
            yield Block(page, start + 1, found, "\n".join(lines[start + 1 : end]) + "\n")


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(title) for _, title in HEADING.findall(prose(page))}


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.parent.name)
def test_a_page_begins_with_a_list_of_its_sections(page: Path) -> None:
    text = prose(page)
    sections = [title for level, title in HEADING.findall(text) if level == "##"]
    listed = re.findall(r"^- \[(.+)\]\(#(.+)\)$", text.partition("\n## ")[0], re.M)
    assert listed == [(title, anchor(title)) for title in sections]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, place = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not place or place in anchors(file), target


@pytest.mark.parametrize("block", all_blocks("sh"), ids=str)
def test_every_command_is_one(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFSWEEP_STORAGE", "")  # which --storage sets
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        match words:
            case ["diffsweep" | ".venv/bin/diffsweep", verb, *arguments]:
                command = cli.commands[verb]
                try:
                    command.make_context(verb, arguments)
                except click.exceptions.Exit:
                    pass  # --help
                except click.ClickException as error:
                    pytest.fail(f"{line}: {error.format_message()}")
            case ["make", *wanted]:
                assert all(word in targets for word in wanted if "=" not in word), line
            case ["python", script, *_] if script.endswith(".py"):
                assert (ROOT / script).exists(), line


def write_python(page: Path, folder: Path) -> None:
    """Write the modules that a page shows, where their first lines say."""
    for block in blocks(page, "python"):
        if match := re.match(r"# ([\w/]+\.py)\n", block.text):
            path = folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_every_yaml_block_is_a_spec_or_an_inventory(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    left = [path for path in sys.path if not Path(path).is_relative_to(tmp_path.parent)]
    monkeypatch.setattr(sys, "path", left)  # without modules of other tests, or of another page
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, name)
    write_python(block.page, tmp_path)
    path, named = tmp_path / "spec.yaml", re.search(r"^name:", block.text, re.M)
    path.write_text(block.text if named else f"name: x\n{block.text}")
    if block.text.startswith("# inventory.yaml"):
        path.write_text(block.text)
        assert load_inventory(path).workers
        return
    for code in re.findall(r"^code: \[(.+?)\]", block.text, re.M):
        (tmp_path / code).mkdir(exist_ok=True)
    assert load_spec(path).name


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_parses_and_names_modules_that_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in PACKAGES:
            assert node.module in MODULES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """In code marks: from the top, or from the folder of the page."""
    named = re.findall(r"`([\w/.-]+\.(?:py|yaml|txt|sh|csv)|[\w/-]+/)`", prose(page))
    ours = [name for name in named if name.partition("/")[0] in (*PACKAGES, "tests")]
    missing = [name for name in ours if not (ROOT / name).exists()]
    assert not missing


def test_the_tree_in_the_readme_is_the_tree_of_rooms() -> None:
    (tree,) = [b for b in blocks(PAGES[0], "") if b.text.startswith("trainable/")]
    found: dict[str, list[str]] = {}
    for line in tree.text.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            package = name.rstrip("/")
            found[package] = []
        else:
            found[package].append(name)
    for package in PACKAGES:
        folders = {f"{r}/" for r in ROOMS[package] if (ROOT / package / r).is_dir()}
        told = {name for name in found[package] if name.endswith("/")}
        assert folders <= told, package
        assert all((ROOT / package / name).exists() for name in found[package])
