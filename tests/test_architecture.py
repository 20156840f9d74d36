"""The house: which file may import which, and what the core must not pull in. Read from FLOORS, not repeated here."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftui import FLOORS

HOME = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "pandas", "pyarrow"}
LATE = HOME / "ftui" / "train" / "trainer.py"  # its class is built upon trl's; nobody may import it early
FILES = sorted([*(HOME / "ftui").rglob("*.py"), *HOME.glob("app.py")])


def read_floors(text: str) -> dict[str, int]:
    """The number of each name's floor; 0 is the ground."""
    floors = reversed(text.replace("\n", " ").split(">"))
    return {name.strip(): number for number, floor in enumerate(floors) for name in floor.split(",")}


def name_of(path: Path) -> str:
    """`ftui/dataset/rows.py` is dataset, `ftui/train.py` is train, `app.py` is app; ftui/__init__.py has no floor."""
    return "" if path == HOME / "ftui" / "__init__.py" else path.relative_to(HOME).with_suffix("").parts[:2][-1]


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Every imported module and whether that happens inside a function; what only type checkers see is passed over."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the floor"
            yield from (
                [(f"ftui.{alias.name}", inside) for alias in node.names]
                if node.module == "ftui"
                else [(str(node.module), inside)]
            )
        yield from imports(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def found_imports(path: Path) -> list[tuple[str, bool]]:
    return list(imports(ast.parse(path.read_text(encoding="utf-8"))))


def broken_floors(name: str, modules: list[str], floors: dict[str, int]) -> list[str]:
    """The names this file imports that do not stand on a floor below its own."""
    own = [module.split(".")[1] for module in modules if module.startswith("ftui.")]
    return [other for other in own if other in floors and other != name and floors[other] >= floors[name]]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(HOME)) for path in FILES])
def test_a_file_imports_only_from_floors_below_its_own(path):
    floors, name = read_floors(FLOORS), name_of(path)
    modules = [module for module, _ in found_imports(path)]
    if not name:
        assert not [module for module in modules if module.startswith("ftui")]
        return
    assert name in floors, f"{name} stands on no floor; add it to FLOORS in ftui/__init__.py"
    assert not broken_floors(name, modules, floors), f"{name} imports from its own floor or from above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_gradio_and_the_heavy_libraries_are_imported_only_where_they_may_be(path):
    found = [(module.split(".")[0], inside) for module, inside in found_imports(path)]
    if name_of(path) not in ("ui", "web", "app"):
        assert "gradio" not in {module for module, _ in found}
    assert path == LATE or not {module for module, inside in found if not inside and module in HEAVY}


def test_no_file_of_the_house_is_ignored_by_git():
    """An ignored file works here and is missing in every clone."""
    if not (HOME / ".git").exists():
        pytest.skip("not a checkout")
    asked = "\n".join(str(path.relative_to(HOME)) for path in FILES)
    found = subprocess.run(
        ["git", "check-ignore", "--stdin", "--no-index"], cwd=HOME, input=asked, text=True, capture_output=True
    )
    assert found.stdout.split() == []


def test_the_floors_test_sees_an_import_from_above_and_one_hidden_in_a_function():
    floors = read_floors("a > b, c > d")
    source = "import ftui.d\ndef f():\n    from ftui.a import x\nif TYPE_CHECKING:\n    from ftui.c import y\nfrom ftui import c"
    modules = [module for module, _ in imports(ast.parse(source))]
    assert modules == ["ftui.d", "ftui.a", "ftui.c"]
    assert broken_floors("b", modules, floors) == ["a", "c"]


def test_the_core_pulls_in_neither_gradio_nor_torch_nor_datasets():
    core = (
        "ftui.__main__, ftui.config, ftui.runs, ftui.encoding, ftui.dataset, ftui.template, ftui.loop, ftui.background"
    )
    code = f"import sys, {core}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOME, check=True)
    assert not {"gradio", *HEAVY} & set(done.stdout.split())


def test_the_house_has_no_drawer_for_odds_and_ends():
    odd = re.compile(r"(utils?|common|helpers?|manager|services|core|misc)$")
    assert not [path for path in FILES if any(odd.match(Path(part).stem) for part in path.relative_to(HOME).parts)]
