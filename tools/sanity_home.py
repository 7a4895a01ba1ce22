# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a home folder for ansible-test, given as the only argument; standard input is from ``pip config list``.

ansible-test passes HOME on to pip, but none of the PIP_* variables, so that an index, a certificate or a
wheelhouse that is set there would be lost: what pip knows here is written to that home's pip.conf.
It also downloads a script that installs pip into its virtual environments. That host is out of reach for
many machines that do have a package index: here pip comes from the index, as a wheel that is only unpacked.
To install it takes seconds, for each of about ten virtual environments. Programs there end soon, and do not look for cycles to
free after each 700 objects, which took a third of pylint's time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ansible_test._internal.python_requirements import get_venv_packages
from pip_settings import pip_settings

GET_PIP = """\
import pathlib
import sysconfig
import zipfile

site = sysconfig.get_path("purelib")
zipfile.ZipFile({wheel!r}).extractall(site)
pathlib.Path(site, "collect_less.pth").write_text("import gc; gc.disable()\\n")
"""


def main(home: Path) -> None:
    """Write both files, and fetch the pip that this ansible-test wants."""
    pip_conf = home / ".config/pip/pip.conf"
    pip_conf.parent.mkdir(parents=True, exist_ok=True)
    settings = pip_settings(sys.stdin.read())
    settings.read_dict({"global": {"quiet": "1", "root-user-action": "ignore"}})
    with pip_conf.open("w") as file:
        settings.write(file)

    pip = get_venv_packages(SimpleNamespace(version="{}.{}".format(*sys.version_info)))["pip"]
    cache = home / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / f"pip-{pip}-py3-none-any.whl"
    if not wheel.exists():
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(cache)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, f"pip=={pip}"], check=True)
    (cache / f"get_pip_{pip.replace('.', '_')}.py").write_text(GET_PIP.format(wheel=str(wheel.resolve())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
