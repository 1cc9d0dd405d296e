"""Each room imports only the rooms before it; heavy libraries stay in the files that are theirs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("risk", "engine", "backtest", "reports")
ALLOWED = {room: set(ROOMS[: i + 1]) for i, room in enumerate(ROOMS)}
# cvxpy is imported where the problem is written in it, torch where it is differentiated.
OWNERS = {
    "cvxpy": {"engine/reference.py", "engine/conic.py", "engine/adapter.py"},
    "torch": {"engine/layer.py", "engine/cone_layer.py", "engine/adapter.py", "engine/mask_books.py"},
    "cvxpylayers": {"engine/cone_layer.py", "engine/adapter.py"},
}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (top-level package, at module level) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(((node.module or "").split(".")[0], id(node) in top))
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    assert files(room)
    for path in files(room):
        for package, _ in imports(path):
            if package in ROOMS or package == "metafolio":
                assert package in ALLOWED[room], f"{path.relative_to(ROOT)} imports {package}"


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_heavy_library_is_imported_only_by_its_owners(library: str) -> None:
    for room in ROOMS:
        for path in files(room):
            name = path.relative_to(ROOT).as_posix()
            if any(package == library for package, _ in imports(path)):
                assert name in OWNERS[library], f"{name} imports {library}"


def test_no_cycles_between_the_modules_of_a_room() -> None:
    graph: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in files(room):
            if path.name == "__init__.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            graph[f"{room}.{path.stem}"] = {
                node.module
                for node in tree.body
                if isinstance(node, ast.ImportFrom) and node.module and "." in node.module
            }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join((*path, module))}"
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
