"""Parse each YAML file and each interpolation once. Hydra would parse all of them for each configuration.

Reusing the parsed values makes compositions faster. Nothing is kept between processes.
"""

import functools
import importlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Modules of OmegaConf that call its parser of interpolations, which returns a tree that is only read.
PARSING = ("omegaconf.base", "omegaconf._utils")


@contextmanager
def read_once() -> Iterator[None]:
    """Make OmegaConf parse equal text only once in this block."""
    try:
        from omegaconf import OmegaConf
    except ImportError:
        yield
        return
    load = OmegaConf.load
    modules: list[Any] = [module for module in map(importlib.import_module, PARSING) if hasattr(module, "parse")]
    parsers = [module.parse for module in modules]
    OmegaConf.load = staticmethod(loading_once(load))  # type: ignore[method-assign]
    for module in modules:
        module.parse = functools.cache(module.parse)
    try:
        yield
    finally:
        OmegaConf.load = staticmethod(load)  # type: ignore[method-assign]
        for module, parse in zip(modules, parsers, strict=True):
            module.parse = parse


def loading_once(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return OmegaConf.load with a cache for open files.

    The key is the text, so that an edited file counts. Each call returns a configuration of its own, because Hydra
    changes what it loads. A text is cached at its second reading, because a single launcher reads most files once.
    """
    known: dict[str | bytes, bytes] = {}
    read: set[str | bytes] = set()

    @functools.wraps(load)
    def cached(file: Any, *words: Any, **options: Any) -> Any:
        if words or options or not hasattr(file, "seek"):
            return load(file, *words, **options)
        start = file.tell()
        text = file.read()
        if text in known:
            return pickle.loads(known[text])
        file.seek(start)
        config = load(file)
        if text in read:
            known[text] = pickle.dumps(config)
        read.add(text)
        return config

    return cached
