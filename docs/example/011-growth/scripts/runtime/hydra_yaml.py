"""Load YAML as Hydra does: 1e-3 is a number, and 2020-01-01 is text.

This module needs PyYAML alone.
"""

import re
from typing import Any

# A float in Hydra's YAML. YAML 1.1 wants a dot and the sign of an exponent.
FLOAT = re.compile(
    r"(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+"
    r"|\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?"
    r"|[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*"
    r"|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN))$"
)
DATE = "tag:yaml.org,2002:timestamp"


TOP_LEVEL = re.compile(r"^grid:", re.MULTILINE)


def load_grid(text: str) -> Any:
    """Return the `grid:` of a configuration's text, or None without one. Raises ValueError with one line."""
    return load_yaml(text)["grid"] if TOP_LEVEL.search(text) else None


def load_yaml(text: str) -> Any:
    """Return the values of a configuration's text. Raises ValueError with one line."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """A loader with resolvers of its own."""

    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.items()
    Loader.yaml_implicit_resolvers = {first: [each for each in pairs if each[0] != DATE] for first, pairs in resolvers}
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
