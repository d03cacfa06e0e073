"""What README.md shows runs, prints what it says, and names the laws as the monoids do."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from lcm_graph import monoids

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
LAWS = ("commutative", "associative", "idempotent", "invertible")


def run(block: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Execute a block as a module, whose classes can be pickled."""
    module = types.ModuleType("readme_block")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, "README.md", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs_and_its_tests_pass(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    module = run(BLOCKS[number], monkeypatch)
    for name, function in list(vars(module).items()):
        if name.startswith("test_"):
            (parametrised,) = function.pytestmark
            for check in parametrised.args[1]:
                function(check)


def test_the_padding_example_is_the_script_and_prints_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in BLOCKS if "PyGLCM" in block]
    script = (ROOT / "examples" / "pyg_padding.py").read_text(encoding="utf-8")
    assert script.split('"""\n\n', 1)[1] == block
    run(block, monkeypatch)
    shown = README.split(block)[1].split("```text\n")[1].split("```")[0]
    assert capsys.readouterr().out == shown


def test_the_first_example_is_short() -> None:
    assert len(BLOCKS[0].splitlines()) <= 15


def test_the_table_of_laws_is_the_monoids_own() -> None:
    table = README.split("| commutative |")[1].split("\n\n")[0]
    described = set()
    for row in table.splitlines()[2:]:
        names, _, *ticks = [cell.strip() for cell in row.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", names):
            described.add(name)
            claimed = tuple(getattr(getattr(monoids, name), law) for law in LAWS)
            assert tuple(tick == "yes" for tick in ticks) == claimed, name
    public = {
        name
        for name, value in vars(monoids).items()
        if isinstance(value, type) and issubclass(value, monoids.Monoid)
    }
    assert described == public - {"Monoid", "LearnedMonoid", "Product", "Lifted"}
