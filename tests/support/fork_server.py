# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has imported all that the modules import, and forks a process for each call. Started by forked.py; its argument is a socket.

Nothing is shared with a call but the imports: no provider is loaded here, no registry opened, no thread started, and a warning that
an import would show is an error. A call ends with Python's exit handlers and the destructors of the libraries that it loaded.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import socket
import sys
import warnings
from contextlib import suppress
from typing import NoReturn

COLLECTION = "ansible_collections.keyfleet.hsm.plugins"
# What the modules import when they need it, and the programs of this folder that are forked.
LATE = ("cryptography.x509.verification", "pkcs11._pkcs11", "pkcs11.attributes", "sqlite3", "tomli_w", "yaml")
PROGRAMS = ("copy_between", "read_members", "use_keys")
LIMIT = 1 << 20  # bytes of a request: the environment is most of it


def import_all() -> None:
    """Every file of modules and module_utils, wherever it lies, and what these import later."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", append=True)
        for folder in ("modules", "module_utils"):
            room = importlib.import_module(f"{COLLECTION}.{folder}")
            for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
                importlib.import_module(found.name)
        for name in (*LATE, *PROGRAMS):
            importlib.import_module(name)
    # To make a pair of the larger size takes ten times as long, and is most of what a copy between tokens would cost here.
    wrapping = vars(sys.modules[f"{COLLECTION}.module_utils._cryptoki.wrapping"])
    wrapping["RSA_BITS"] = wrapping["RSA_BITS"][-1:]
    # A collection in a call would look at all that was imported, again and again.
    gc.collect()
    gc.freeze()


def become(request: bytes, stdio: list[int]) -> str:
    """Make this fork what the request says. The name of the module to run."""
    call = json.loads(request)
    for number, descriptor in enumerate(stdio):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    # As python -m has them.
    sys.path[0] = call["folder"]
    sys.argv[:] = [str(importlib.import_module(call["module"]).__file__)]
    return str(call["module"])


def serve(control: socket.socket) -> tuple[bytes, list[int]]:
    """Answers each request with a process number, and with the exit code when that has ended. Returns in the forks alone."""
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        waiting = select.poll()
        for descriptor in (control.fileno(), *running):
            waiting.register(descriptor, select.POLLIN)
        for descriptor, _event in waiting.poll():
            if descriptor in running:
                child, caller = running.pop(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with caller, suppress(BrokenPipeError):  # nobody waits for it
                    caller.send(b"%d" % code)
                os.close(descriptor)
                continue
            request, descriptors, _flags, _address = socket.recv_fds(control, LIMIT, 4)
            if not request:
                sys.exit()  # the tests have ended
            caller, child = socket.socket(fileno=descriptors.pop()), os.fork()
            if not child:
                for held in (control, caller, *(other for _child, other in running.values())):
                    held.close()
                for ended in running:
                    os.close(ended)
                return request, descriptors
            for given in descriptors:
                os.close(given)
            handle = os.pidfd_open(child)
            socket.send_fds(caller, [b"%d" % child], array.array("i", [handle]))
            running[handle] = child, caller


def run(name: str) -> NoReturn:
    """Run the module and end. To take all imports apart, as Python does at its end, would copy the memory that is shared with the process
    that forks: that takes longer than most calls."""
    code = 0
    try:
        importlib.import_module(name).main()
    except SystemExit as end:
        if end.code not in (None, 0, 1):
            raise
        code = int(end.code or 0)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).exit(code)
    raise AssertionError("exit() returned")


if __name__ == "__main__":
    import_all()
    run(become(*serve(socket.socket(fileno=int(sys.argv[1])))))
