# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""At the start of each Python of a test host, and of the tests: keep the bytecode of what is imported from an archive, as of files.

Every task of Ansible brings its module and sixty files of source in an archive. To compile them takes more time than to run them.
What is kept is a pyc file, named by the hash of its source.
"""

import _imp
import os
import sys
import zipimport
from contextlib import suppress
from types import CodeType

FOLDER = f"{os.environ.get('KEYFLEET_BYTECODE', '/var/cache/bytecode')}/{os.geteuid()}-{sys.implementation.cache_tag}"
HEADER = 16
# What Python does for files itself.
pyc = vars(sys.modules["_frozen_importlib_external"])
compile_source = vars(zipimport)["_compile_source"]


def kept(name: str, source: bytes) -> CodeType:
    digest = _imp.source_hash(0, source)
    path = f"{FOLDER}/{digest.hex()}.pyc"
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        code: CodeType = compile_source(name, source)
        # A service may run where it cannot write.
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkdir(FOLDER, mode=0o700)
            with open(f"{path}.{os.getpid()}", "wb") as fresh:
                fresh.write(pyc["_code_to_hash_pyc"](code, digest, False))
            os.rename(fresh.name, path)
        return code
    found: CodeType = pyc["_compile_bytecode"](content[HEADER:], source_path=name)
    return found


vars(zipimport)["_compile_source"] = kept
