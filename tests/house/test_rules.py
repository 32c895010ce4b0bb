"""Rules of the house that no linter knows."""

import ast
import re
import subprocess

import pytest

from tests.conftest import ROOT


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


SOURCES = tracked("services/**/*.py", "services/*.py", "clients/**/*.py")


def functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node, (body[-1].end_lineno - body[0].lineno + 1 if body else 0)


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300
    assert [f"{node.name}: {lines}" for node, lines in functions(path) if lines > 40] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_assert_validates_input(path):
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))


def test_no_file_is_called_by_what_it_is_not():
    forbidden = {"utils", "helpers", "common", "base", "manager", "inspect", "codecs", "compression"}
    assert [path for path in SOURCES if path.stem in forbidden] == []


def test_no_file_names_a_registry_or_this_machine():
    hosts = re.compile(r"pypi\.org|pythonhosted|npmjs|registry\.|proxy\.golang|download\.pytorch|/work/|/root/")
    skipped = {".png", ".jpg", ".webp"}
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix not in skipped
        and path != ROOT / "tests" / "house" / "test_rules.py"
        and "google" not in path.parts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if hosts.search(line)
    ]
    assert found == []


def test_settings_are_documented_in_operations():
    from services.__main__ import OPENINGS

    page = (ROOT / "docs" / "operations.md").read_text()
    fields = {name for opening in OPENINGS for name in opening.settings_class.model_fields}
    assert sorted(name for name in fields if f"`MEKIKI_{name.upper()}`" not in page) == []
