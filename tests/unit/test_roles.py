# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A role says the same everywhere: in its argument specs, its defaults, its tasks, its README and its metadata."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (CHECKOUT / "roles").iterdir() if path.is_dir())
COLLECTION = "keyfleet.hsm"
# Fields of a task that are expressions without braces.
EXPRESSIONS = {"when", "that", "until", "failed_when", "changed_when"}


class Loader(yaml.SafeLoader):
    """Tags such as !unsafe are for Ansible."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


@functools.cache
def read(path: Path) -> Any:
    return Loader(path.read_text()).get_single_data() if path.exists() else None


@functools.cache
def names(template: str, context: str) -> frozenset[str]:
    """The variables that a template loads, or stores."""
    found = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(template).find_all(jinja2.nodes.Name)
    return frozenset(name.name for name in found if name.ctx == context)


def specs(role: Path) -> dict[str, Any]:
    """The argument specs by entry point."""
    found: dict[str, Any] = read(role / "meta/argument_specs.yml")["argument_specs"]
    return found


def options(role: Path, entry_point: str = "main") -> dict[str, Any]:
    found: dict[str, Any] = specs(role)[entry_point].get("options", {})
    return found


def defaults(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(role / "defaults/main.yml") or {}
    return found


def same(one: Any, other: Any) -> bool:
    """True is not 1, although Python says so."""
    return type(one) is type(other) and bool(one == other)


def wrong_defaults(role: Path) -> Iterator[str]:
    """defaults/main.yml against the argument specs of all entry points."""
    given = defaults(role)
    for name in given.keys() - options(role).keys():
        yield f"{name} is in defaults/main.yml and not in the argument specs"
    for entry_point in specs(role):
        for name, option in options(role, entry_point).items():
            if "default" in option and option.get("required"):
                yield f"{name} has a default and is required"
            elif "default" in option and name not in given:
                yield f"{name} has a default in the argument specs ({entry_point}) and not in defaults/main.yml"
            elif "default" in option and not same(option["default"], given[name]):
                yield f"{name} is {given[name]!r} in defaults/main.yml and {option['default']!r} in the argument specs ({entry_point})"
            elif "default" not in option and name in given:
                yield f"{name} has a default in defaults/main.yml and not in the argument specs ({entry_point})"


def wrong_specs(role: Path) -> Iterator[str]:
    for entry_point, spec in specs(role).items():
        for field in ("short_description", "description", "author", "version_added"):
            if not spec.get(field):
                yield f"the argument specs ({entry_point}) have no {field}"
        for name, option in options(role, entry_point).items():
            for field in ("description", "type"):
                if not option.get(field):
                    yield f"{name} has no {field} in the argument specs ({entry_point})"
            if entry_point != "main" and name not in options(role):
                yield f"{name} is an option of {entry_point} and not of main"
            if not name.startswith(("hsm_", f"{role.name}_")):
                yield f"{name} begins neither with {role.name}_ nor with hsm_, which all roles share"


def rows(role: Path) -> dict[str, str]:
    """The table of variables in the README: the text under ``default`` by name."""
    text = (role / "README.md").read_text()
    section = re.search(r"^## Variables$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", section[1] if section else "", re.MULTILINE)
    return dict(table)


def wrong_readme(role: Path) -> Iterator[str]:
    if not (role / "README.md").exists():
        yield "there is no README.md"
        return
    text = (role / "README.md").read_text()
    if f"\n# {COLLECTION}.{role.name}\n" not in text:
        yield f"README.md has not the title {COLLECTION}.{role.name}"
    told = rows(role)
    if different := told.keys() ^ options(role).keys():
        yield f"README.md and the argument specs do not list the same variables: {', '.join(sorted(different))}"
    for name, option in options(role).items():
        cell = told.get(name, "")
        literal = re.fullmatch(r"`(.*)`", cell)
        if name not in told:
            continue
        if bool(option.get("required")) != (cell == "required"):
            yield f"{name} is required in one of README.md and the argument specs"
        default = option.get("default")
        # An empty default may be told in words, what has none has to be, and an expression goes without its braces.
        if literal and "default" in option and default != f"{{{{ {literal[1]} }}}}":
            right = same(yaml.safe_load(literal[1]), default)
        else:
            right = bool(literal) or default in (None, "", [], {})
        if not right:
            yield f"{name} is {default!r} in the argument specs and {cell} in README.md"
    listed = re.search(r"^Tags: (.*(?:\n.+)*)\.$", text, re.MULTILINE)
    if not listed or set(re.findall(r"`(\w+)`", listed[1])) != tags(role):
        yield f"README.md does not end a line 'Tags:' with exactly {', '.join(sorted(tags(role)))}"


def tags(role: Path) -> set[str]:
    """Those that a person gives. ``always`` is for what only begins."""
    return {tag for task in read(role / "tasks/main.yml") for tag in task_tags(task)} - {"always"}


def task_tags(task: dict[str, Any], skipped: tuple[str, ...] = ()) -> list[str]:
    """The tags of a task in a run with --skip-tags. One that is for several steps leaves out those that are skipped, in templates: each
    is one tag, since ansible-core 2.18 ends a run at one that is a list."""
    env = jinja2.Environment(autoescape=True)
    env.filters["difference"] = lambda one, other: [entry for entry in one if entry not in other]
    found: list[str] = []
    for tag in task.get("tags", []):
        found.append(env.from_string(tag).render(ansible_skip_tags=skipped).strip())
    return found


def flavors(role: Path, file: str) -> list[str]:
    """The files that a name with an option in it stands for: one for each choice."""
    found = re.search(r"{{ (\w+) }}", file)
    return [file.replace(found[0], choice) for choice in options(role)[found[1]]["choices"]] if found else [file]


def wrong_tags(role: Path) -> Iterator[str]:
    """What main.yml does goes step by step, and each step can be named."""
    every = tags(role)
    for task in read(role / "tasks/main.yml"):
        imported = task.get("ansible.builtin.import_tasks") or task.get("ansible.builtin.include_tasks")
        imported = imported["file"] if isinstance(imported, dict) else imported
        if not task.get("tags"):
            yield f"the task {task['name']!r} of main.yml has no tag"
        for tag in task_tags(task):
            if not tag.startswith(f"{role.name}_") and not (tag == "always" and "ansible.builtin.set_fact" in task):
                yield f"the tag {tag} does not begin with {role.name}_"
        for file in flavors(role, imported or ""):
            if file and not (role / "tasks" / file).exists():
                yield f"main.yml imports {file}, which is not there"
        # --skip-tags leaves out a task for any one of its tags.
        if any("{{" in tag for tag in task.get("tags", [])):
            if set(task_tags(task)) != every:
                yield f"{task['name']!r} is for every step, and its tags are not {', '.join(sorted(every))}"
            for left in every:
                skipped = tuple(every - {left})
                if set(task_tags(task, skipped)) != {left} or set(task_tags(task, tuple(every))) - every:
                    yield f"{task['name']!r} is left out when all but {left} are skipped"
    looks = [task["tags"] for task in read(role / "tasks/main.yml") if task.get("when") == f"not {role.name}_looked"]
    if looks and sorted(looks) != sorted([tag] for tag in every):
        yield f"what refuses has to be included once for each of {', '.join(sorted(every))}, with that tag alone"


def wrong_metadata(role: Path) -> Iterator[str]:
    metadata = read(role / "meta/main.yml") or {}
    info = metadata.get("galaxy_info", {})
    lowest = re.search(r">=(\d+\.\d+)", read(CHECKOUT / "meta/runtime.yml")["requires_ansible"])
    assert lowest
    expected = {
        "role_name": role.name,
        "author": "keyfleet.hsm contributors",
        "license": "GPL-3.0-or-later",
        "min_ansible_version": lowest[1],
    }
    for field, value in expected.items():
        if not same(info.get(field), value):
            yield f"meta/main.yml: {field} is {info.get(field)!r} and not {value!r}"
    if not info.get("description"):
        yield "meta/main.yml: there is no description"
    if not info.get("platforms") or not all(platform.get("name") and platform.get("versions") for platform in info["platforms"]):
        yield "meta/main.yml: platforms have no names or no versions"
    if not info.get("galaxy_tags") or not all(re.fullmatch("[a-z0-9]+", tag) for tag in info["galaxy_tags"]):
        yield "meta/main.yml: there are no galaxy_tags of small letters and digits"
    if metadata.get("dependencies") != []:
        yield "meta/main.yml: dependencies have to be an empty list, since a role says in its tasks what it includes"


def texts(value: Any, field: str = "") -> Iterator[str]:
    """Every template in what YAML has, expressions included."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from texts(key)
            yield from texts(entry, key)
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry, field)
    elif isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield value
        elif field in EXPRESSIONS:
            yield "{{ " + value + " }}"


def templates(role: Path) -> Iterator[tuple[str, str]]:
    """Every template of the role, each behind the path of the file where it is."""
    for path in sorted(role.rglob("*")):
        folder = path.relative_to(role).parts[0]
        if folder in ("tasks", "handlers", "vars", "defaults") and path.suffix == ".yml":
            # Ansible takes a backslash in YAML as it is, and Jinja would begin an escape with it.
            found = [text.replace("\\", "\\\\") for text in texts(read(path))]
        elif folder == "templates" and path.is_file():
            found = [path.read_text()]
        else:
            continue
        yield from ((str(path.relative_to(role)), text) for text in found)


def used(role: Path) -> dict[str, set[str]]:
    """The variables that are used, with the files where they are."""
    found: dict[str, set[str]] = {}
    for file, text in templates(role):
        for name in names(text, "load"):
            found.setdefault(name, set()).add(file)
    return found


def tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Tasks and blocks, at every depth."""
    for task in value if isinstance(value, list) else []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part))


def all_tasks(role: Path) -> Iterator[dict[str, Any]]:
    for folder in ("tasks", "handlers"):
        for path in sorted((role / folder).rglob("*.yml")):
            yield from tasks(read(path))


def made(role: Path) -> set[str]:
    """Variables that the role gives a value: registers, facts, variables of tasks, loops, templates and vars/main.yml."""
    found = set(read(role / "vars/main.yml") or {})
    for task in all_tasks(role):
        found |= {task["register"]} if "register" in task else set()
        found |= set(task.get("ansible.builtin.set_fact", {})) | set(task.get("vars", {}))
        found |= {task.get("loop_control", {}).get(field) for field in ("loop_var", "index_var")} - {None}
    return found.union(*(names(path.read_text(), "store") for path in (role / "templates").rglob("*.j2")))


def wrong_variables(role: Path) -> Iterator[str]:
    """Misspelt names, options that nothing reads, and internal names that begin as another role's."""
    known = {name for entry_point in specs(role) for name in options(role, entry_point)} | made(role)
    found = used(role)
    for name, files in found.items():
        if name.startswith(f"{role.name}_") and name not in known:
            yield f"{name} is used in {', '.join(sorted(files))}, and is neither an option nor set by the role"
    # One that has a single choice is there for later, and is judged by the argument specs alone.
    for name, option in options(role).items():
        if name not in found and len(option.get("choices", [])) != 1:
            yield f"{name} is an option that nothing uses"


def wrong_inclusions(role: Path) -> Iterator[str]:
    """What the role hands over to another one of the collection is an option there."""
    for task in all_tasks(role):
        included = task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role") or {}
        collection, _dot, name = included.get("name", "").rpartition(".")
        if collection != COLLECTION:
            continue
        entry_point = included.get("tasks_from", "main").removesuffix(".yml")
        if not (CHECKOUT / "roles" / name / "meta/argument_specs.yml").exists():
            yield f"{task['name']!r} includes the role {name}, which is not there"
        elif entry_point not in specs(CHECKOUT / "roles" / name):
            yield f"{task['name']!r} includes {entry_point} of the role {name}, which is no entry point"
        else:
            there = options(CHECKOUT / "roles" / name, entry_point)
            handed = task.get("vars", {})
            for variable in handed.keys() - there.keys():
                if variable.startswith(f"{name}_"):
                    yield f"{task['name']!r} sets {variable}, which is no option of the role {name} ({entry_point})"


def bare(template: str) -> set[str]:
    """The variables that a template loads and does not put through the filter bool, be it behind other filters."""
    tree = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(template)
    truths = set()
    for node in tree.find_all(jinja2.nodes.Filter):
        inner: Any = node
        while node.name == "bool" and isinstance(inner, jinja2.nodes.Filter):
            inner = inner.node
        truths.add(id(inner))
    return {name.name for name in tree.find_all(jinja2.nodes.Name) if name.ctx == "load" and id(name) not in truths}


def wrong_truths(role: Path) -> Iterator[str]:
    """-e x=false and an inventory in INI make a text of it, and a text is true: whoever uses a truth says that it is one."""
    truths = {name for entry_point in specs(role) for name, option in options(role, entry_point).items() if option.get("type") == "bool"}
    for file, text in templates(role):
        for name in sorted(truths & bare(text)):
            yield f"{name} is used in {file} without the filter bool"


def is_one_word(role: Path, node: Any) -> bool:
    """Whether an expression of a template gives one word of a file: by a filter that quotes, or as a number or a text of the role's own."""
    if isinstance(node, jinja2.nodes.Filter) and node.name in (f"{COLLECTION}.config_word", f"{COLLECTION}.to_toml"):
        return True
    if isinstance(node, jinja2.nodes.Call):  # a macro of the same file
        return True
    name = node.attr if isinstance(node, jinja2.nodes.Getattr) else getattr(node, "name", "")
    numbers = {name for name, option in options(role).items() if option.get("type") in ("int", "float")}
    return name in numbers or name in (read(role / "vars/main.yml") or {}) or name.endswith("port")


def unquoted_words(role: Path) -> Iterator[str]:
    """A value in a file of another program may begin a line of its own, unless the filter has seen it."""
    for path in sorted((role / "templates").rglob("*.j2")):
        tree = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(path.read_text())
        for output in tree.find_all(jinja2.nodes.Output):
            for node in output.nodes:
                if not isinstance(node, jinja2.nodes.TemplateData) and not is_one_word(role, node):
                    yield f"templates/{path.name}, line {node.lineno}: a value is written without the filter {COLLECTION}.config_word"


def made_up_users(role: Path) -> Iterator[str]:
    """The module user makes whom it does not find: a name that is misspelt becomes an account, with a home and a shell."""
    for path in sorted((role / "tasks").rglob("*.yml")):
        for task in tasks(read(path)):
            options = task.get("ansible.builtin.user")
            if not options or options.get("system"):
                continue
            if f"reject('in', {role.name}_missing_users)" not in str(task.get("loop")):
                yield f"{path.name}: {task['name']!r} makes users who are not there: leave out {role.name}_missing_users, or say system"
            if "_to_come" not in str(task.get("when")):
                yield f"{path.name}: {task['name']!r} fails in check mode for a group that is to come"


def unguarded_failures(role: Path) -> Iterator[str]:
    """A play with any_errors_fatal sends hosts without a fault into ``rescue``, too, where nothing says then what failed."""
    for path in sorted([*(role / "tasks").rglob("*.yml"), role / "vars/main.yml"]):
        for word in re.findall(r"ansible_failed_\w+[.]\w+(?! \| default[(]|\w)", path.read_text() if path.exists() else ""):
            yield f"{path.relative_to(role)} reads {word} without a default"


CHECKS = [
    *(wrong_defaults, wrong_specs, wrong_readme, wrong_tags, wrong_metadata, wrong_variables, wrong_inclusions, wrong_truths),
    *(unquoted_words, unguarded_failures, made_up_users),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_is_of_one_piece(role: Path, check: Any) -> None:
    found = list(check(role))
    assert not found, "\n".join(found)


# A change of role runtime, and what is then found wrong.
FAULTS = [
    ("defaults/main.yml", "runtime_venv: /opt/keyfleet/venv", "runtime_venv: /opt/venv", "is '/opt/venv' in defaults/main.yml"),
    ("defaults/main.yml", "runtime_manage_packages: true", "runtime_manage_packages: 1", "is 1 in defaults/main.yml"),
    ("defaults/main.yml", 'runtime_index_url: ""', "", "runtime_index_url has a default in the argument specs (main) and not in defaults"),
    ("defaults/main.yml", 'runtime_index_url: ""', "runtime_index: 1", "runtime_index is in defaults/main.yml and not in the argument"),
    ("meta/argument_specs.yml", "        default: /usr/bin/python3\n", "", "runtime_python has a default in defaults/main.yml and not"),
    ("meta/argument_specs.yml", "        type: bool\n        default", "        default", "runtime_manage_packages has no type"),
    ("meta/argument_specs.yml", "    version_added: 0.1.0\n", "", "have no version_added"),
    ("meta/argument_specs.yml", "      runtime_python:\n", "      python:\n", "python begins neither with runtime_ nor with hsm_"),
    ("README.md", "| `runtime_python` |", "| `runtime_pithon` |", "do not list the same variables: runtime_pithon, runtime_python"),
    ("README.md", "| `true` |", "| `false` |", "runtime_manage_packages is True in the argument specs and `false` in README.md"),
    ("README.md", "| `/opt/keyfleet/venv` |", "| required |", "runtime_venv is required in one of"),
    ("README.md", "`runtime_install`.", "`runtime_installed`.", "with exactly runtime_install, runtime_preflight"),
    ("README.md", "# keyfleet.hsm.runtime", "# Runtime", "has not the title"),
    ("tasks/main.yml", "  tags:\n    - runtime_install\n", "", "has no tag"),
    ("tasks/main.yml", "runtime_preflight", "preflight", "the tag preflight does not begin with runtime_"),
    ("tasks/main.yml", "preflight.yml", "checks.yml", "imports checks.yml, which is not there"),
    ("tasks/install.yml", "package_names:", "package_name:", "sets package_name, which is no option of the role package (main)"),
    ("tasks/install.yml", "name: keyfleet.hsm.package", "name: keyfleet.hsm.packages", "includes the role packages, which is not there"),
    ("tasks/install.yml", "when: runtime_make\n", "when: runtime_made\n", "runtime_made is used in tasks/install.yml"),
    ("vars/main.yml", "runtime_manage_packages |", "true |", "runtime_manage_packages is an option that nothing uses"),
    ("vars/main.yml", "runtime_manage_packages | bool", "runtime_manage_packages", "is used in vars/main.yml without the filter bool"),
    ("vars/main.yml", "runtime_scratch:", "runtime_scrap:", "runtime_scratch is used in tasks/install.yml"),
    ("meta/main.yml", 'min_ansible_version: "2.18"', "min_ansible_version: 2.18", "min_ansible_version is 2.18 and not '2.18'"),
    ("meta/main.yml", "role_name: runtime", "role_name: other", "role_name is 'other' and not 'runtime'"),
    ("meta/main.yml", "dependencies: []", "dependencies: [keyfleet.hsm.package]", "dependencies have to be an empty list"),
    ("meta/main.yml", "    - hsm\n", "    - HSM\n", "there are no galaxy_tags of small letters"),
]


@pytest.mark.parametrize(("file", "old", "new", "problem"), FAULTS, ids=[fault[3][:40] for fault in FAULTS])
def test_a_fault_is_found(tmp_path: Path, file: str, old: str, new: str, problem: str) -> None:
    role = tmp_path / "runtime"
    shutil.copytree(CHECKOUT / "roles/runtime", role)
    text = (role / file).read_text()
    assert old in text, f"{file} has changed: this test has to change a line that is there"
    # All places, since a variable may be used in several.
    (role / file).write_text(text.replace(old, new))
    found = "\n".join(problem for check in CHECKS for problem in check(role))
    assert problem in found


def test_a_failure_that_may_not_be_there_is_found(tmp_path: Path) -> None:
    role = tmp_path / "service"
    shutil.copytree(CHECKOUT / "roles/service", role)
    tasks = role / "tasks/run.yml"
    tasks.write_text(tasks.read_text().replace("ansible_failed_task.name | default(", "ansible_failed_task.name | trim("))
    assert list(unguarded_failures(role)) == ["tasks/run.yml reads ansible_failed_task.name without a default"]


def test_a_user_who_would_be_made_is_found(tmp_path: Path) -> None:
    role = tmp_path / "client"
    shutil.copytree(CHECKOUT / "roles/client", role)
    for name in ("config.yml", "consumers/one.yml"):
        path = role / "tasks" / name
        text = path.read_text().replace(" | reject('in', client_missing_users) | list", "")
        path.write_text(text.replace("client_groups_to_come", "client_missing_groups"))
    said = "makes users who are not there: leave out client_missing_users, or say system", "fails in check mode for a group that is to come"
    tasks = "config.yml: 'Users who may use them'", "one.yml: 'Users who may use the HSM'"
    assert list(made_up_users(role)) == [f"{task} {text}" for task in tasks for text in said]


def test_a_word_without_its_quotes_is_found(tmp_path: Path) -> None:
    role = tmp_path / "service"
    shutil.copytree(CHECKOUT / "roles/service", role)
    template = role / "templates/drop_in.conf.j2"
    template.write_text(template.read_text().replace("{{ path | keyfleet.hsm.config_word('systemd') }}", "{{ path }}"))
    assert "without the filter keyfleet.hsm.config_word" in "".join(unquoted_words(role))
