"""Notice figures that a run writes with matplotlib's own `savefig`, which does not record the run."""

import os
import os.path as osp
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MODULE = "matplotlib.figure"


class SavefigWatch:
    """Call `notice` with the path of each figure that `Figure.savefig` or `plt.savefig` writes.

    It does not import matplotlib: a script may do so later, or never.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.notice = notice
        self.is_on = False
        self.figure_class: Any = None
        self.original: Any = None
        self.wrapper: Any = None

    def start(self) -> None:
        self.is_on = True
        module = sys.modules.get(MODULE)
        if module:
            self.wrap(module)
        else:
            sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Restore matplotlib. If another library has wrapped `savefig` since then, its wrapper stays."""
        self.is_on = False
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self.figure_class and self.figure_class.savefig is self.wrapper:
            self.figure_class.savefig = self.original

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Find matplotlib.figure as Python does, and wrap `savefig` once it is imported."""
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_wrap(module: ModuleType) -> None:
                execute(module)
                self.wrap(module)

            spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec

    def wrap(self, module: Any) -> None:
        original = module.Figure.savefig

        @wraps(original)
        def savefig(figure: Any, fname: Any, *arguments: Any, **options: Any) -> Any:
            result = original(figure, fname, *arguments, **options)
            if self.is_on and isinstance(fname, str | os.PathLike):
                self.notice(written_path(figure, fname, options.get("format")))
            return result

        self.figure_class, self.original, self.wrapper = module.Figure, original, savefig
        module.Figure.savefig = savefig


def written_path(figure: Any, fname: str | os.PathLike[str], kind: str | None) -> str:
    """Return the path that `savefig` has written: it adds the default ending to a name without one."""
    path = osp.abspath(os.fspath(fname))
    if kind is None and not osp.splitext(path)[1][1:]:
        path = f"{path.rstrip('.')}.{figure.canvas.get_default_filetype()}"
    return path
