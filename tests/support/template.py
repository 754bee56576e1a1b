"""Copy and render the template with its uncommitted changes and with tests/lab.yml."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import copier
import yaml
from support.process import commit, edit, git

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent


class Loader(yaml.SafeLoader):
    """Read copier.yml. An !include stays a file name."""


Loader.add_constructor("!include", lambda loader, node: node.value)

CONFIG = yaml.load((ROOT / "copier.yml").read_text(), Loader)
QUESTIONS = {
    name: details for name, details in CONFIG.items() if not name.startswith("_") and details.get("when", True)
}


def asked(question):
    """Return a question without the list of the lab's machines."""
    return QUESTIONS[question]["help"].split("\n")[0]


LAB = yaml.safe_load((TESTS / "lab.yml").read_text())
MACHINES = LAB["machines"]


@dataclass
class Template:
    """A copy of the template, with its uncommitted changes, in its own repository."""

    path: Path
    version: str | None
    renders: dict = field(default_factory=dict)  # by name and answers; shared with copies of this template
    shelf: Path = None  # the folder of these renders

    def __post_init__(self):
        self.shelf = self.shelf or self.path.parent

    def copy(self, path):
        """Return a copy that the caller may change and release."""
        return Template(shutil.copytree(self.path, path), self.version, self.renders, self.shelf)

    def release(self, version, changes=()):
        """Commit and tag. Each change is (file, old text, new text)."""
        for name, old, new in changes:
            edit(self.path / name, old, new)
        commit(self.path, version)
        git(self.path, "tag", "--annotate", version, "--message", version)
        git(self.path, "repack", "--quiet", "-a", "-d")  # Copier clones it several times per update


def copy_template(path, version="v1.0.0", lab_file=TESTS / "lab.yml", without=()):
    """Copy the template as it is here, but for files whose paths begin with an entry of `without`."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and not name.startswith(without) and (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    shutil.copy(lab_file, path / "lab.yml")
    git(path, "init", "--quiet")
    template = Template(path, version)
    template.release(version)
    return template


def render(template, destination, **answers):
    """Run `copier copy --defaults` without trust. Refuse answers to unknown questions."""
    unknown = answers.keys() - QUESTIONS.keys()
    assert not unknown, f"no such questions: {unknown}"
    copier.run_copy(
        str(template.path), destination, data=answers, defaults=True, quiet=True, unsafe=False, vcs_ref=template.version
    )
    return Path(destination)
