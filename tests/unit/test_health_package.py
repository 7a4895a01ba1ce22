# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The package of the health service, and its units: what the role brings to a host, without a host."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import jinja2
import pytest
import yaml
from health_service import health, instance

ROLE = Path(__file__).resolve().parents[2] / "roles" / "gateway"


@pytest.fixture(scope="module")
def packer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("health_package", ROLE / "files" / "health_package.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_package_runs_without_ansible(packer: ModuleType, tmp_path: Path) -> None:
    """Installed by pip in a place of its own, it needs the libraries of requirements and nothing of Ansible."""
    files = list(packer.sources(packer.COLLECTION))
    version = packer.wheel_version(packer.COLLECTION, files)
    wheel = packer.build(files, version, tmp_path)
    (tmp_path / "again").mkdir()
    assert packer.build(files, version, tmp_path / "again").read_bytes() == wheel.read_bytes()
    assert packer.wheel_version(packer.COLLECTION, [*files, ("a", b"")]) != version
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "/_module/" in name or "/modules/" in name]

    place = tmp_path / "place"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(place), str(wheel)]
    subprocess.run(pip, check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); sys.modules['ansible'] = None; "
        "import importlib.metadata, keyfleet_gateway.registry_copy, keyfleet_gateway.service; "
        "keyfleet_gateway.service.Page().closed(healthy=True, refresh=None, login=True); "
        "print(importlib.metadata.version('keyfleet-gateway'), keyfleet_gateway.__file__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [version, str(place / "keyfleet_gateway" / "__init__.py")]


@pytest.mark.parametrize("asked", ["--check", "--write-origins={folder}"])
def test_what_starts_no_service_imports_none(asked: str, tmp_path: Path) -> None:
    """The role asks for the one in every run, and the unit for the other at every start: libraries took half a second."""
    service = health(tmp_path, [instance("primary", tmp_path, {"label": "payments", "login": False})])
    service.write()
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('aiohttp', 'asyncio', 'cryptography', 'jinja2', 'pkcs11', 'prometheus_client'))); "
        "from keyfleet_gateway.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, *service.command()[3:], asked.format(folder=tmp_path)]
    done = subprocess.run(command, env=service.environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done


def rendered(name: str) -> str:
    """A unit, with a token of SoftHSM2 and a certificate."""
    own = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    environment = jinja2.Environment(autoescape=jinja2.select_autoescape(), undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["keyfleet.hsm.config_word"] = lambda value, _form: value
    text = (ROLE / "templates" / f"{name}.j2").read_text()
    given = {
        "gateway_health_user": "keyfleet-gateway",
        "gateway_health_groups": ["softhsm"],
        "gateway_health_credentials": {"pin-primary-0": "/etc/keyfleet/pin"},
        "gateway_health_command": "/bin/true",
        "gateway_health_python": "/bin/true",
        "gateway_health_config": "/etc/keyfleet/gateway.toml",
        "gateway_health_registry": "/var/lib/keyfleet/registry.db",
        "gateway_health_copy": "/run/keyfleet-gateway-registry/registry.db",
        "gateway_health_paths": ["/run/keyfleet/locks"],
        "gateway_devices": [],
        "gateway_health_confined": {**own["gateway_confined"], "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK"},
    }
    environment.filters["dirname"] = lambda path: str(Path(path).parent)
    environment.filters["combine"] = lambda one, other: {**one, **other}
    return environment.from_string(text).render(given)


@pytest.mark.parametrize("name", ["keyfleet-gateway.service", "keyfleet-gateway-registry.service"])
def test_units_are_confined(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    unit.write_text(rendered(name))
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True, check=True)
    level = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert level is not None and float(level.group(1)) < 2.5, judged.stdout
