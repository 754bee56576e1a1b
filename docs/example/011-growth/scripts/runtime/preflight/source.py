"""Analyze a script's text without running it: its imports, its `__main__` guard, and the calls in it."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from typing import NamedTuple

IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


class Import(NamedTuple):
    """An import in a script. `is_certain` means that it is reached whenever the code around it runs."""

    line: int
    name: str
    is_certain: bool


class Source:
    """The parsed text of a script. Raises OSError, SyntaxError or ValueError if it cannot be parsed."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self.tree = ast.parse(file.read(), path)
        nodes = list(ast.walk(self.tree))
        self.names = {node.id for node in nodes if isinstance(node, ast.Name)}
        self.attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        self.texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
        self.modules = {name.partition(".")[0] for name in map(imported_name, nodes) if name}

    @property
    def guards(self) -> list[ast.If]:
        return [node for node in self.tree.body if isinstance(node, ast.If) and is_guard(node.test)]

    @property
    def is_importable(self) -> bool:
        """Whether an import does not run the script, because all its work is behind a `__main__` guard."""
        other_uses = "__name__" in {
            child.id
            for node in self.tree.body
            if isinstance(node, ast.If) and not is_guard(node.test)
            for child in ast.walk(node.test)
            if isinstance(child, ast.Name)
        }
        return bool(self.guards) and not other_uses

    @property
    def uses_hydra(self) -> bool:
        return "hydra" in self.modules

    @property
    def changes_path(self) -> bool:
        """Whether the script may change where Python searches for modules."""
        return "site" in self.modules or {"sys", "path"} <= self.names | self.modules | self.attributes

    @property
    def reads_arguments(self) -> bool:
        """Whether the script may parse arguments of its own."""
        return "argv" in self.attributes | self.names or "argparse" in self.modules

    @property
    def answers_dry_run(self) -> bool:
        """Whether this is a program of the template that checks itself with --dry-run."""
        return {"runtime", "argparse"} <= self.modules and "--dry-run" in self.texts

    def imports(self) -> Iterator[Import]:
        yield from required_imports(self.tree, True)

    def called(self) -> set[str]:
        """Return the names in the guard, and those in each function of the script that is called from there."""
        functions = {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        found: set[str] = set()
        waiting: list[ast.AST] = [child for guard in self.guards for child in guard.body]
        while waiting:
            new = set(dotted_names(waiting.pop())) - found
            found |= new
            waiting += [functions[name] for name in new if name in functions]
        return found


def imported_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        return node.names[0].name
    return node.module if isinstance(node, ast.ImportFrom) and not node.level else None


def is_guard(test: ast.expr) -> bool:
    """Return whether an expression is `__name__ == "__main__"`."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = (test.left, test.comparators[0])
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    return names == ["__name__"] and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)


def dotted_names(node: ast.AST) -> Iterator[str]:
    """Yield the names in a piece of code, like `main` and `train.main`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id
        elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            yield f"{child.value.id}.{child.attr}"


# Imports --------------------------------------------------------------------------------------------------------------


def required_imports(node: ast.AST, is_certain: bool) -> Iterator[Import]:
    """Yield all imports except optional ones: under TYPE_CHECKING, or in a `try` that handles their absence."""
    if isinstance(node, ast.Import):
        yield from (Import(node.lineno, alias.name, is_certain) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.module and not node.level:
            yield Import(node.lineno, node.module, is_certain)
    elif isinstance(node, ast.Try) and any(handler.type is None or expects(handler.type) for handler in node.handlers):
        yield from replaced_imports(node, is_certain)
    elif isinstance(node, ast.With) and any(expects(item.context_expr) for item in node.items):
        return
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        yield from all_imports(node.orelse, is_certain)
    else:
        is_certain = is_certain and (not isinstance(node, ast.If | ast.IfExp | ast.Match) or is_guarded(node))
        yield from all_imports(list(ast.iter_child_nodes(node)), is_certain)


def all_imports(nodes: Sequence[ast.AST], is_certain: bool) -> Iterator[Import]:
    for node in nodes:
        yield from required_imports(node, is_certain)


def replaced_imports(node: ast.Try, is_certain: bool) -> Iterator[Import]:
    """Yield the imports of a `try` that handles a failed import. Its handlers count only if an import fails."""
    body = list(all_imports(node.body, is_certain))
    if not all(is_found(each.name) for each in body):
        yield from all_imports(node.handlers, is_certain)
    yield from all_imports([*node.orelse, *node.finalbody], is_certain)


def is_guarded(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and is_guard(node.test)


def expects(node: ast.expr) -> bool:
    """Return whether an expression names an exception that a failed import raises."""
    return bool({child.id for child in ast.walk(node) if isinstance(child, ast.Name)} & IMPORT_ERRORS)


def is_found(name: str) -> bool:
    """Return whether a module can be imported. Its packages are not imported, because that can take long."""
    if name in sys.modules:
        return True
    parts = name.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
        for depth in range(2, len(parts) + 1):
            locations = spec.submodule_search_locations if spec else None
            spec = find_submodule(".".join(parts[:depth]), list(locations)) if locations else None
        if not spec and len(parts) > 1:
            importlib.import_module(name)  # a package may create the module when it is imported, like six.moves
    except (Exception, SystemExit):
        return False
    return bool(spec) or name in sys.modules


def find_submodule(name: str, locations: list[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, locations) if hasattr(finder, "find_spec") else None
        if spec:
            return spec
    return None
