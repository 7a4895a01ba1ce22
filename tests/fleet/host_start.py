# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""At the start of a Python that is given ansible-playbook or a module: let it run in a fork of a process that has made its imports.

A module takes 120 ms of the processor, of which imports take 100, and the tests run some thousands. 26 calls of hsm_key on hosts,
where it goes on in another Python, took 27 seconds of the processor, and take 13 so. The first one starts as it does anywhere, and leaves
a process behind that forks for others, until none came for a while. That imports what one of our modules brings before it forks for the
first of these, unless it has another file by a name of that archive: then it is left for the process that this start leaves. A fork has
the folder, environment, umask and files of the Python that asks for it, which ends with its exit code, and it dies when that is killed.
Modules that are files, where pipelining is off, start as anywhere, and so do those of other collections.

Of ansible-playbook there is imported what does not read its configuration: a run without tasks took 0.83 seconds of the processor, and
takes 0.4 so.
"""

import _imp
import _socket
import os
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn

KEPT = f"{os.environ.get('KEYFLEET_BYTECODE', '/var/cache/bytecode')}/{os.geteuid()}-{sys.implementation.cache_tag}"
# What stands before the module's name and before the archive, in programs of ansible-core 2.19 and later, and of 2.18.
NAMED = (b"\nmodule_fqn='", b"run_module(mod_name='", b"\nmodule_fqn = '")
ARCHIVE = (b"\nzip_data='", b"\n    ZIPDATA = '")
# A module that goes on in another Python tells it where its archive is. That has grown by a time of day: it goes by the name of the first.
GROWN = (b"\nmodlib_path='", b"\nmodlib_path = '")
GREW = b"sitecustomize.py"
FIRST = "KEYFLEET_ARCHIVE"
OWN = tuple(named + b"ansible.modules." for named in NAMED)
OURS = tuple(named + b"ansible_collections.keyfleet.hsm." for named in NAMED)
# What each has that runs the module.
RUNS = ("ansible/module_utils/_internal/_ansiballz/_loader.py", "ansible/module_utils/basic.py")
# What our modules import when they need it.
LATE = ("cryptography.x509.verification", "pkcs11.attributes", "sqlite3")
# What ansible-playbook imports before, or without, ansible.constants, which reads the configuration.
CONTROLLER = (
    *("ansible._internal._errors._captured", "ansible._internal._ssh._ssh_agent", "ansible._internal._templating._jinja_patches"),
    *("ansible.config.manager", "ansible.context", "ansible.parsing.utils.addresses", "cryptography.hazmat.backends.openssl.backend"),
    *("ansible.module_utils.common.sys_info", "ansible.module_utils.compat.selinux", "ansible.parsing.splitter", "ansible.utils.hashing"),
    *("ansible.utils._junit_xml", "cryptography.hazmat.primitives.hmac", "cryptography.hazmat.primitives.kdf.pbkdf2", "curses"),
    *("jinja2.sandbox", "multiprocessing.queues", "multiprocessing.shared_memory", "packaging.specifiers", "pty", "tarfile", "uuid"),
    "difflib",
)
ENTRY, ENTRIES_END = b"PK\1\2", b"PK\5\6"
BEGUN, REFUSED = b"begun", b"refused"
IDLE = 120  # seconds
# Programs read these when they start. Who differs in one, or sees another system, asks another process.
READ_AT_START = ("GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "TZ")
SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def given() -> bytes:
    """The program on standard input, which is there again when Python looks for it."""
    parts = []
    while part := os.read(0, 1 << 20):
        parts.append(part)
    again = os.memfd_create("program")
    for part in parts:
        os.write(again, part)
    os.lseek(again, 0, os.SEEK_SET)
    os.dup2(again, 0)
    os.close(again)
    return b"".join(parts)


def door(program: bytes) -> str:
    """The socket in KEPT of a process that started as this one did, and that got its imports from the same version of Ansible."""
    version = program.partition(b'"_ansible_version": ')[2].partition(b",")[0]
    with open(__file__, "rb") as own:
        alike: list[object] = [own.read()]
    alike += [sys.executable, *sys.path, version, os.getresuid(), os.getresgid(), os.getgroups()]
    alike += [os.stat(f"/proc/self/ns/{space}").st_ino for space in SPACES]
    # Beside modules there is ansible-playbook.
    alike += [bool(program)]
    alike += sorted(pair for pair in os.environ.items() if pair[0].startswith(READ_AT_START))
    return f"{_imp.source_hash(0, repr(alike).encode()).hex()}.socket"


def value(program: bytes, names: tuple[bytes, ...]) -> bytes:
    """What stands in quotes after the first of these that is there."""
    name = next((name for name in names if name in program), b"")
    return program.partition(name)[2].partition(b"'")[0] if name else b""


def is_of(program: bytes, starts: tuple[bytes, ...]) -> bool:
    return any(start in program for start in starts)


def archive(program: bytes) -> bytes:
    """What the program brings to be imported."""
    if content := value(program, ARCHIVE):
        import base64

        return base64.b64decode(content)
    with open(value(program, GROWN), "rb") as file:
        return file.read()


def entries(content: bytes) -> dict[bytes, bytes]:
    """Of the files in an archive checksum and sizes, by name. ValueError: it is none. Every module comes by here, and to import zipfile
    takes a fifth of the start that is to be spared."""
    found = {}
    end = content.rindex(ENTRIES_END)
    at, number = int.from_bytes(content[end + 16 : end + 20], "little"), int.from_bytes(content[end + 10 : end + 12], "little")
    for _one in range(number):
        if content[at : at + 4] != ENTRY:
            raise ValueError
        # Checksum, size packed, size; name; then what is not compared: more fields, and a comment.
        named, more, comment = (int.from_bytes(content[at + 28 + 2 * part : at + 30 + 2 * part], "little") for part in range(3))
        found[content[at + 46 : at + 46 + named]] = content[at + 16 : at + 28]
        at += 46 + named + more + comment
    return found


def identity(packed: bytes) -> str:
    """Of what an archive holds. Each run of Ansible packs it anew, with the time of day: names, sizes and checksums stay."""
    import binascii

    return _imp.source_hash(0, repr(sorted(entries(binascii.a2b_base64(packed)).items())).encode()).hex()


def in_kept() -> str:
    """KEPT, short enough for the address of a socket."""
    return f"/proc/self/fd/{os.open(KEPT, os.O_PATH | os.O_CLOEXEC)}"


def ask(name: str, command: list[str], brought: str) -> int | None:
    """The exit code of the fork that ran this program, or this command. None: there was none. ``brought``: the identity of the archive
    of a program of ours."""
    asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    mask, folder = os.umask(0), os.open(".", os.O_PATH)
    os.umask(mask)
    descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, folder))
    try:
        asked.connect(f"{in_kept()}/{name}")
        told = [str(mask).encode(), brought.encode(), str(len(command)).encode()]
        told += [*map(os.fsencode, command), *map(b"=".join, os.environb.items())]
        asked.sendmsg([b"\0".join(told)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
        if asked.recv(16) != BEGUN:
            # It may have read it, and the place in the file is shared.
            if not command:
                os.lseek(0, 0, os.SEEK_SET)
            return None
    except OSError:
        return None
    # What has begun is not begun once more, however it ended.
    code = b""
    with suppress(OSError):
        code = asked.recv(16)
    return int(code or b"137")


def fork_for_others(name: str, program: bytes, brought: str) -> None:
    """Leave a process behind. It holds nothing that the caller holds: who reads its output would wait for it."""
    # Where its parent is not, and where that cannot be written, there is no such process.
    with suppress(FileExistsError):
        os.mkdir(KEPT, mode=0o700)
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        fresh = f"{in_kept()}/{name}.{os.getpid()}"
        imported = Imported(fresh)
        try:
            imported.at_first(program, brought)
            listen(fresh, f"{in_kept()}/{name}", imported)
        finally:
            imported.forget()
    finally:
        os._exit(0)


class Imported:
    """What a process has imported that forks for others."""

    def __init__(self, fresh: str) -> None:
        self.fresh = fresh
        self.kept: list[str] = []
        # Archives of our modules, and the files of all of them.
        self.brought: set[str] = set()
        self.files: dict[bytes, bytes] = {}

    def at_first(self, program: bytes, brought: str) -> None:
        """What every module of Ansible imports, and the program around it; of ours, what the one imports that is given. Without a program,
        CONTROLLER."""
        if program:
            self.from_archive(program, brought)
        else:
            import_those_there(CONTROLLER)
            read_routes()
            freeze()

    def can_run(self, brought: str, read: "Callable[[], bytes]") -> bool:
        """Whether a fork is what a start of this program of ours would be, after that was imported which it brings."""
        if not brought or brought in self.brought:
            return True
        try:
            self.from_archive(read(), brought)
        except Exception:
            return False
        return True

    def from_archive(self, program: bytes, brought: str) -> None:
        import importlib

        content = archive(program)
        files = entries(content)
        files.pop(GREW, None)
        if any(self.files.get(name, known) != known for name, known in files.items()):
            raise ValueError
        self.files.update(files)
        kept = f"{self.fresh}.{len(self.kept)}.zip"
        with open(kept, "wb") as file:
            file.write(content)
        self.kept.append(kept)
        if len(self.kept) == 1:
            sys.meta_path.insert(0, Rest())
        sys.path.insert(0, kept)
        try:
            runs = [name.removesuffix(".py").replace("/", ".") for name in RUNS if name.encode() in files]
            for name in (*runs, "resource", "runpy", "shutil", "tempfile", "zipfile"):
                importlib.import_module(name)
            if brought:
                module = value(program, NAMED).decode()
                importlib.import_module(module)
                # It is to run as a program.
                del sys.modules[module]
                import_those_there(LATE)
                self.brought.add(brought)
        finally:
            sys.path.remove(kept)
        freeze()

    def forget(self) -> None:
        """Until then a fork may read the source of what was imported."""
        for kept in self.kept:
            with suppress(FileNotFoundError):
                os.unlink(kept)


def freeze() -> None:
    """No collection of a fork looks at these, and so copies them."""
    import gc

    gc.collect()
    gc.freeze()


def import_those_there(names: tuple[str, ...]) -> None:
    """Another version may lack one. Who needs it says so."""
    import importlib

    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


def read_routes() -> None:
    """Where the names of ansible.builtin lead: to parse that file takes a fifth of a run without tasks."""
    import importlib

    # Another version may have none, or elsewhere. Then a run reads them itself.
    with suppress(ImportError, KeyError, OSError):
        finder = vars(importlib.import_module("ansible.utils.collection_loader._collection_finder"))
        read = finder["_meta_yml_to_dict"]
        with open(os.path.join(os.path.dirname(finder["__file__"]), "../../config/ansible_builtin_runtime.yml"), "rb") as file:
            known = file.read()
        routes = read(known, ("ansible.builtin", "runtime.yml"))
        finder["_meta_yml_to_dict"] = lambda content, name: routes if content == known else read(content, name)


class Rest:
    """What no module before has brought is imported from the archive of the one that runs, or is being imported."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        package, _dot, _name = name.rpartition(".")
        if not package.startswith("ansible"):
            return None
        return PathFinder.find_spec(name, [os.path.join(sys.path[0], *package.split("."))])


def listen(fresh: str, path: str, imported: Imported) -> None:
    import select
    import signal
    import socket

    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(fresh)
    listening.listen(64)
    os.rename(fresh, path)
    # Nobody waits for the forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while select.select([listening], [], [], IDLE)[0]:
        asked, _address = listening.accept()
        # Who asks is gone.
        with asked, suppress(OSError):
            answer(asked, listening, imported)
    with suppress(FileNotFoundError):
        os.unlink(path)


def answer(asked: "socket.socket", listening: "socket.socket", imported: Imported) -> None:
    """Fork, where a fork is as good as a start."""
    import signal

    content, given, _flags, _address = asked.recvmsg(1 << 20, _socket.CMSG_SPACE(16))
    if not given:
        return
    [(_level, _kind, numbers)] = given
    descriptors = [int.from_bytes(numbers[at : at + 4], sys.byteorder) for at in range(0, len(numbers), 4)]
    try:
        mask, brought, *rest = content.split(b"\0")
        # The place in the file is shared with the one that asks.
        if not imported.can_run(brought.decode(), lambda: os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0)):
            asked.send(REFUSED)
        elif not os.fork():
            try:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                run(asked, int(mask), rest, descriptors)
            finally:
                os._exit(1)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def run(asked: "socket.socket", mask: int, told: list[bytes], descriptors: list[int]) -> "NoReturn":
    """As the Python that asks would."""
    import atexit
    import fcntl
    import runpy
    import signal
    import traceback

    # The kernel sends this when the one that asks is gone, which sends no more itself.
    fcntl.fcntl(asked, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(asked, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(asked, fcntl.F_SETFL, os.O_ASYNC)
    number_of, *rest = told
    command, environment = [os.fsdecode(word) for word in rest[: int(number_of)]], rest[int(number_of) :]
    *stdio, folder = descriptors
    for number, its in enumerate(stdio):
        os.dup2(its, number)
        os.close(its)
    os.fchdir(folder)
    os.close(folder)
    os.umask(mask)
    os.environb.clear()
    for pair in environment:
        name, _is, value = pair.partition(b"=")
        os.environb[name] = value
    if command:
        sys.argv[:] = command
    else:
        # Who reads a program from there has read all.
        os.lseek(0, 0, os.SEEK_END)
    asked.send(BEGUN)
    own, code = os.getpid(), 0
    try:
        runpy.run_path(command[0] if command else "/proc/self/fd/0", run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 1 and end.code != 1:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # The end of Python: threads, exit handlers, and what was not written yet.
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # A process that the module forked may come here, too.
    if os.getpid() == own:
        asked.send(b"%d" % code)
    os._exit(code)


def of_a_module() -> bytes | None:
    """The program of a Python that reads it from a pipe, as Ansible starts it, and as a module does that goes on in another Python."""
    if sys.orig_argv[1:] not in ([], ["--"]) or os.isatty(0):
        return None
    program = given()
    if is_of(program, OURS):
        if packed := value(program, ARCHIVE):
            try:
                os.environ[FIRST] = identity(packed)
            except ValueError:
                return None
        return program if FIRST in os.environ else None
    return program if is_of(program, OWN) else None


def start() -> None:
    command = sys.orig_argv[1:]
    if command and os.path.basename(command[0]) == "ansible-playbook":
        # One is the folder that is listed. What it holds besides would not be passed on. Where secrets are looked for, all is as anywhere.
        as_anywhere = len(os.listdir("/proc/self/fd")) > 4 or os.environ.get("ANSIBLE_PIPELINING") == "0"
        program = None if as_anywhere else b""
    else:
        command, program = [], of_a_module()
    if program is None:
        return
    name, brought = door(program), os.environ[FIRST] if is_of(program, OURS) else ""
    code = ask(name, command, brought)
    if code is not None:
        os._exit(code)
    fork_for_others(name, program, brought)


# Without these three there is nothing that could be passed on.
with suppress(OSError):
    for descriptor in range(3):
        os.fstat(descriptor)
    start()
