"""What is written down twice has to agree: lists of requirements, versions, commands, documents."""

import ast
import importlib.metadata
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clickseg
from clickseg import cli

UPPER_BOUNDS = {"==", "~=", "<", "<="}


def requirements(path):
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {canonicalize_name(parsed.name): parsed for line in lines if line for parsed in [Requirement(line)]}


def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def imported_packages(path):
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def sources(folder):
    files = sorted(folder.rglob("*.py"))
    assert files, f"nothing in {folder}"
    return files


@pytest.mark.parametrize("target", ["serve", "test"])
def test_the_readme_command_is_a_makefile_target(repository, target):
    commands = re.findall(r"^\s*\$?\s*(?:.*&& )?make (\w+)", (repository / "README.md").read_text(), flags=re.MULTILINE)
    targets = re.findall(r"^(\w+):", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    assert target in commands
    assert target in targets


def test_continuous_integration_runs_the_readme_test_command(repository):
    assert re.search(r"^make test$", (repository / ".ci/run").read_text(), flags=re.MULTILINE)


def test_the_image_is_made_of_what_there_is_and_starts_the_server(repository, capsys):
    lines = (repository / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    sent = {line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert copied == sent, "what is copied is what .dockerignore lets through"
    assert all((repository / name).exists() for name in copied)
    (entry,) = (json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT "))
    program, command, *options = entry
    assert program in project(repository)["scripts"]
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    told = capsys.readouterr().out
    assert all(f"{option} " in told for option in options if option.startswith("--"))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_has_an_upper_bound(repository, name):
    unbounded = [
        str(r) for r in requirements(repository / name).values() if not UPPER_BOUNDS & {s.operator for s in r.specifier}
    ]
    assert unbounded == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_what_is_installed_is_what_is_required(repository, name):
    for requirement in requirements(repository / name).values():
        version = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, but {version} is installed"


def test_torch_comes_first_and_exactly(repository):
    first = next(iter(requirements(repository / "requirements.txt").values()))
    assert first.name == "torch"
    assert [s.operator for s in first.specifier] == ["=="]


def alone(repository):
    """What the Makefile installs without its dependencies."""
    line = re.search(r"^ALONE := (.*)$", (repository / "Makefile").read_text(), flags=re.MULTILINE)
    return {canonicalize_name(r.name): r for r in map(Requirement, line.group(1).split())}


def test_what_is_installed_alone_is_named_in_both_places_and_installed(repository):
    for name, requirement in alone(repository).items():
        assert str(requirement) in (repository / "requirements.txt").read_text()
        assert requirement.specifier.contains(importlib.metadata.version(name))


def test_the_library_is_happy_with_what_the_app_installs(repository):
    installed = requirements(repository / "requirements.txt") | alone(repository)
    for wanted in map(Requirement, project(repository)["dependencies"]):
        assert canonicalize_name(wanted.name) in installed
        assert wanted.specifier.contains(importlib.metadata.version(wanted.name)), wanted


def undeclared(files, declared, own):
    """`file imports package` for each import of something that is neither ours, nor Python's, nor declared."""
    providers = importlib.metadata.packages_distributions()
    for path in files:
        for package in sorted(set(imported_packages(path)) - set(sys.stdlib_module_names) - own):
            # Several distributions may share an import name (itk-io and itk-core): one of them has to be declared.
            # What is not installed here (an extra) can only be told by its name.
            if not declared & {canonicalize_name(name) for name in providers.get(package, [package])}:
                yield f"{path.name} imports {package}"


def test_the_library_declares_what_it_imports(repository):
    stated = project(repository)
    lines = [*stated["dependencies"], *itertools.chain(*stated["optional-dependencies"].values())]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    files = sources(repository / "apps/clickseg/clickseg")
    assert list(undeclared(files, declared, own={"clickseg"})) == []


def test_the_app_requires_what_it_imports(repository):
    declared = {*alone(repository), *requirements(repository / "requirements.txt")}
    app = repository / "apps/clickseg"
    assert list(undeclared([app / "main.py", *sources(app / "lib")], declared, own={"clickseg", "lib"})) == []


def test_there_is_one_version(repository):
    assert project(repository)["version"] == clickseg.__version__
    assert re.search(
        rf"^## \[({re.escape(clickseg.__version__)}|Unreleased)\]",
        (repository / "CHANGELOG.md").read_text(),
        re.MULTILINE,
    )


def test_the_library_imports_without_monai_label_and_the_adaptor(repository, starter, tmp_path):
    folder = repository / "apps/clickseg"
    modules = [
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in sources(folder / "clickseg")
        if path.name not in {"__init__.py", "__main__.py"}
    ]
    script = f"import sys; sys.modules['monailabel'] = sys.modules['lib'] = None; import {', '.join(modules)}"
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    starter.run([tmp_path / "script.py"], environment, tmp_path, tmp_path / "output")


def test_imports_that_are_forbidden_are_absent(repository):
    app = repository / "apps/clickseg"
    for path in sources(app / "clickseg"):
        assert not {"monailabel", "lib", "main"} & set(imported_packages(path)), path
    for path in sources(app / "lib"):
        assert "main" not in set(imported_packages(path)), path
    for path in sources(app):  # there is no CPU build of torchvision
        assert "torchvision" not in set(imported_packages(path)), path
    for part in (app, app.parent):  # the one import root is a folder, not a package
        assert not (part / "__init__.py").exists()
    for path in (repository / "tests").rglob("__init__.py"):  # tests/clickseg would hide the library
        pytest.fail(f"{path}: folders of tests are no packages")


@pytest.fixture(scope="module")
def commands(repository):
    """The names of the commands, as `python -m clickseg --help` lists them, each with a word of help."""
    done = subprocess.run(
        [sys.executable, "-m", "clickseg", "--help"],
        cwd=repository / "apps/clickseg",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"^    ([a-z][a-z-]*)\s+\S", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("command", ["serve", "train", "evaluate", "predict", "phantom"])
def test_help_lists_the_command(commands, command):
    assert command in commands


def test_every_command_has_help(commands, capsys):
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0
        assert f"clickseg {command}" in capsys.readouterr().out


def test_the_script_is_the_command_line(repository):
    entry = importlib.metadata.EntryPoint("clickseg", project(repository)["scripts"]["clickseg"], "console_scripts")
    assert entry.load() is cli.main


def test_every_decision_is_in_the_index(repository):
    folder = repository / "docs/adr"
    index = (folder / "README.md").read_text()
    for record in folder.glob("[0-9]*.md"):
        assert f"({record.name})" in index, f"{record.name} is not listed in docs/adr/README.md"


def test_links_between_documents_lead_somewhere(repository):
    for document in [
        *repository.glob("*.md"),
        *(repository / "docs").rglob("*.md"),
        *(repository / "bundles").rglob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if not re.match(r"[a-z]+:", target):
                assert (document.parent / target).exists(), f"{document.relative_to(repository)} points to {target}"
