# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script of the consumers' units, on tokens of SoftHSM2 and with a real ssh-agent. systemctl is a double."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from consumer_files import planned, rendered
from consumer_host import SYSTEMCTL, TOOL, Host
from hsm_fixture import PIN, SO_PIN, SOFTHSM

WRONG = "pin-1937"


@pytest.fixture
def host() -> Iterator[Host]:
    # Short: the name of a socket has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="kf") as folder:
        yield Host.made(Path(folder))


def test_a_seal_gets_no_pin_that_was_refused_and_it_is_tried_once(host: Host) -> None:
    host.has("openbao", "bao")
    host.pin(WRONG)
    refused = host.run("guard", "bao")
    assert refused.returncode == 1 and "token 'payments' cannot be logged in to with the PIN in" in refused.stderr, refused.stderr
    given = host.home / "run/keyfleet-consumers/bao/environment"
    assert host.note("bao.halt").exists() and host.logins == 1 and not given.exists()
    # The token's flag tells, and when a good login has cleared it, the note does.
    for said in ("nothing was tried. Find out which PIN is right", "it is not tried again"):
        again = host.run("guard", "bao")
        assert again.returncode == 1 and said in again.stderr and host.logins == 1, again.stderr
        host.hsm.tool("--list-objects")
    host.pin(f"{PIN}\n")
    assert host.run("guard", "bao").returncode == 0
    assert given.read_text() == f"BAO_HSM_PIN={PIN}\n" and given.stat().st_mode & 0o777 == 0o600
    assert not host.note("bao.halt").exists()
    told = (host.home / "arguments").read_text() + refused.stderr
    assert PIN not in told and WRONG not in told


def test_the_pin_is_tried_on_the_token_of_that_name_alone(host: Host) -> None:
    """pkcs11-tool takes the first token whose label begins so, and slots of SoftHSM are in the order of serial numbers."""
    host.has("openbao", "bao")
    for number in range(8):
        host.hsm.softhsm_util("--init-token", "--free", "--label", f"payments-{number}", "--so-pin", SO_PIN, "--pin", "99999999")
    done = host.run("guard", "bao")
    assert done.returncode == 0 and host.logins == 1, done.stderr
    assert "user PIN count low" not in host.hsm.tool("--list-token-slots", pin=None, token="")
    host.hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", "99999999")
    done = host.run("guard", "bao")
    assert done.returncode == 1 and "or more than one: no PIN was tried" in done.stderr and host.logins == 1, done.stderr


DEAD = """#!/bin/sh
case "$*" in
  *--login*) : >{home}/gone; echo 'error: PKCS11 function C_Login failed: rv = CKR_DEVICE_ERROR (0x30)' >&2; exit 1 ;;
esac
[ ! -e {home}/gone ] || exit 1
exec {real} "$@"
"""


def test_a_gateway_that_ends_in_the_login_says_nothing_of_the_pin(host: Host) -> None:
    host.has("openbao", "bao")
    host.has("openssl", "mail", service="mail")
    real = shutil.which("pkcs11-tool")
    host.program("pkcs11-tool", DEAD.format(home=host.home, real=real))
    done = host.run("guard", "bao")
    assert done.returncode == 1 and "so the PIN is not to blame" in done.stderr, done.stderr
    assert not host.note("bao.halt").exists() and (host.home / "run/keyfleet-consumers/bao/waiting").exists()
    host.program("pkcs11-tool", TOOL.format(home=host.home, real=real))
    assert host.run("guard", "bao").returncode == 0


FAILS = """#!/bin/sh
case "$*" in
  *--login*) echo >>{home}/logins; echo 'error: PKCS11 function C_Login failed: rv = {code}' >&2; exit 1 ;;
  *) {real} "$@" | {sees} ;;
esac
"""
GENERAL = "CKR_GENERAL_ERROR (0x5)"


def fails_to_log_in(host: Host, code: str, sees: str = "cat") -> str:
    """A guard whose login fails so; what it says."""
    real = shutil.which("pkcs11-tool")
    host.program("pkcs11-tool", FAILS.format(home=host.home, real=real, code=code, sees=sees))
    done = host.run("guard", "bao")
    host.program("pkcs11-tool", TOOL.format(home=host.home, real=real))
    assert done.returncode == 1
    return done.stderr


def test_a_login_that_fails_for_another_reason_is_no_wrong_pin(host: Host) -> None:
    """Two logins at the same moment, or a gateway that is just starting, get CKR_GENERAL_ERROR."""
    host.has("openbao", "bao")
    logins = host.home / "logins"
    for turn in (1, 2):
        assert "the token does not say that the PIN is wrong" in fails_to_log_in(host, GENERAL)
        assert (host.home / "run/keyfleet-consumers/bao/waiting").exists() and not host.note("bao.halt").exists()
        assert logins.read_text() == "\n" * turn
    # This PIN was never good, and a token may hide that it is wrong.
    assert "It is not tried again" in fails_to_log_in(host, GENERAL) and host.note("bao.halt").exists()
    assert "it is not tried again" in fails_to_log_in(host, GENERAL) and logins.read_text() == "\n" * 3
    # One that was good is tried for as long as the watch asks for it, which is ever less often.
    host.pin(PIN)
    assert host.run("guard", "bao").returncode == 0 and not host.note("bao.halt").exists()
    for _turn in range(19):
        assert "the token does not say that the PIN is wrong" in fails_to_log_in(host, "CKR_DEVICE_ERROR (0x30)")
    assert "It is not tried again" in fails_to_log_in(host, "CKR_DEVICE_ERROR (0x30)") and logins.read_text() == "\n" * 23
    # The file is another now.
    host.pin(PIN)
    for _turn in range(2):
        assert "the token does not say that the PIN is wrong" in fails_to_log_in(host, GENERAL)
    assert "It is not tried again" in fails_to_log_in(host, GENERAL)


def test_a_token_that_counts_a_wrong_pin_is_believed_whatever_the_error(host: Host) -> None:
    host.has("openbao", "bao")
    counted = f"if [ -e {host.home}/logins ]; then sed 's/token initialized/&, user PIN count low/'; else cat; fi"
    assert "It is not tried again" in fails_to_log_in(host, "CKR_FUNCTION_FAILED (0x6)", counted)
    assert host.note("bao.halt").exists()


@pytest.mark.parametrize("kind", ["sshd", "openbao"])
def test_a_gateway_whose_tokens_come_and_go_is_waited_for(host: Host, kind: str) -> None:
    """Of two looks the second may see no token. It is no other number of tokens, and no error that ends the service for good."""
    host.has(kind, "bao", service="bao")
    real = shutil.which("pkcs11-tool")
    once = f'[ -e {host.home}/looked ] || {{ touch {host.home}/looked; exec {real} "$@"; }}'
    host.program("pkcs11-tool", f"#!/bin/sh\n{once}\ncase $* in *--login*) echo 'error: no slot' >&2; exit 1 ;; esac\n")
    done = host.run("guard", "bao")
    assert done.returncode == 1 and "several" not in done.stderr, done.stderr
    assert (host.home / "run/keyfleet-consumers/bao/waiting").exists() and not host.note("bao.halt").exists()


def test_objects_that_cannot_be_listed_are_no_wrong_pin(host: Host) -> None:
    host.has("openbao", "bao")
    fails = "error: PKCS11 function C_FindObjectsInit failed: rv = CKR_ATTRIBUTE_VALUE_INVALID (0x13)"
    real = shutil.which("pkcs11-tool")
    host.program("pkcs11-tool", f"#!/bin/sh\ncase $* in *--login*) echo '{fails}' >&2; exit 1 ;; esac\nexec {real} \"$@\"\n")
    assert host.run("guard", "bao").returncode == 0


def test_what_a_service_runs_with_is_not_replaced_by_an_older_pin(host: Host) -> None:
    host.has("openssl", "mail", service="mail")
    run = host.home / "run/keyfleet-consumers/mail"
    run.mkdir(parents=True)
    (run / "pin").write_text("current")
    (run / "pin.before").write_text("older")
    host.pin(WRONG)
    assert host.run("guard", "mail", "reload").returncode == 1 and (run / "pin").read_text() == "current"


def test_no_other_service_tries_a_pin_that_was_refused(host: Host) -> None:
    for kind, name in (("openbao", "bao"), ("sshd", "shell"), ("openssl", "mail")):
        host.has(kind, name, service=name)
    host.has("vault", "own", pin_file=host.pin(PIN, "other"))
    host.pin(WRONG)
    assert host.run("guard", "bao").returncode == 1 and host.logins == 1
    host.hsm.tool("--list-objects")
    for name in ("shell", "mail"):
        again = host.run("guard", name)
        assert again.returncode == 1 and "it is not tried again" in again.stderr and host.logins == 1, again.stderr
    # One with a file of its own does.
    assert host.run("guard", "own").returncode == 0 and host.logins == 2
    # What failed for another reason is no business of others.
    host.pin(PIN)
    host.note("bao.halt").write_text("")
    later = time.time_ns() + 10**9
    os.utime(host.note("bao.halt"), ns=(later, later))
    assert host.run("guard", "bao").returncode == 1 and host.logins == 2
    assert host.run("guard", "shell").returncode == 0 and host.logins == 3


def test_where_no_pin_was_tried_nothing_is_held_against_it(host: Host) -> None:
    host.has("openbao", "bao")
    # Another's login makes the token invisible for a moment, here to all but the first look.
    away = f"mv {host.home}/tokens {host.home}/gone"
    host.program(
        "pkcs11-tool",
        TOOL.format(home=host.home, real=shutil.which("pkcs11-tool")).replace("exec", f'case "$*" in *--login*) {away} ;; esac\nexec'),
    )
    refused = host.run("guard", "bao")
    assert refused.returncode == 1 and "no PIN was tried" in refused.stderr and host.logins == 0, refused.stderr
    (host.home / "gone").rename(host.home / "tokens")
    assert not host.note("bao.halt").exists()
    host.program("pkcs11-tool", TOOL.format(home=host.home, real=shutil.which("pkcs11-tool")))
    assert host.run("guard", "bao").returncode == 0


def test_a_refusal_counts_when_the_token_is_not_seen_after_it(host: Host) -> None:
    host.has("openbao", "bao")
    host.pin(WRONG)
    (host.home / "programs/pkcs11-tool").unlink()
    real = shutil.which("pkcs11-tool")
    host.program(
        "pkcs11-tool",
        f'#!/bin/sh\n{real} "$@"\ncode=$?\ncase "$*" in *--login*) mv {host.home}/tokens {host.home}/gone ;; esac\nexit $code\n',
    )
    assert host.run("guard", "bao").returncode == 1 and host.note("bao.halt").exists() and host.logins == 1


OPENS = "#!/bin/sh\ncase $1 in x509) exit ;; esac\ntest -e {home}/up && echo public || {{ {fails}; exit 1; }}\n"


@pytest.mark.parametrize(
    ("says", "halts"),
    [
        ("41800005:PKCS#11 module:ERR_CKR_error:General Error", False),
        ("418000A0:PKCS#11 module:ERR_CKR_error:PIN incorrect", True),
        ("could not load key ?pin-source=file:/run/pin; the certificate is incorrect", False),
    ],
)
@pytest.mark.parametrize("reload", [[], ["reload"]])
def test_a_key_that_cannot_be_opened_after_a_good_login_is_tried_again(host: Host, says: str, halts: bool, reload: list[str]) -> None:
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    host.has("openbao", "bao")
    host.program("openssl", OPENS.format(home=host.home, fails=f"echo '{says}' >&2"))
    refused = host.run("guard", "web", *reload)
    assert refused.returncode == 1 and says in refused.stderr and host.logins == 1
    assert host.note("web.halt").exists() is halts
    # What runs is looked at by its handshakes: who stops it later means it.
    assert (host.home / "run/keyfleet-consumers/web/waiting").exists() is (not halts and not reload)
    (host.home / "up").touch()
    again = host.run("guard", "web", *reload)
    assert again.returncode == halts and host.logins == 1 + (not halts), again.stderr
    # No other service tries it in this one's way.
    assert host.run("guard", "bao").returncode == 0


def test_a_key_that_never_opens_is_not_tried_for_ever(host: Host) -> None:
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    host.program("openssl", OPENS.format(home=host.home, fails="echo 'General Error' >&2"))
    tries = host.note("web.failures")
    for turn in range(1, 4):
        assert host.run("guard", "web").returncode == 1 and host.logins == turn and not host.note("web.halt").exists()
        assert tries.read_text() == f"{turn}\n"
    tries.write_text("20\n")
    assert "is not tried again" in host.run("guard", "web").stderr and host.note("web.halt").exists() and host.logins == 4
    assert host.run("guard", "web").returncode == 1 and host.logins == 4
    # Written anew, and good: it has all of its tries again.
    host.pin(PIN)
    (host.home / "up").touch()
    assert host.run("guard", "web").returncode == 0 and not tries.exists()


def test_a_pin_that_openssl_gives_in_another_form_is_given_once(host: Host) -> None:
    """pkcs11-provider does not say that it was refused. The token does."""
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    other = f"pkcs11-tool --module {host.hsm.library} --token-label payments --login --pin {WRONG} --list-objects >/dev/null 2>&1"
    host.program("openssl", OPENS.format(home=host.home, fails=other))
    refused = host.run("guard", "web")
    assert refused.returncode == 1 and "is not tried again" in refused.stderr and host.note("web.halt").exists() and host.logins == 2
    host.hsm.tool("--list-objects")
    assert host.run("guard", "web").returncode == 1 and host.logins == 2


def test_a_pin_longer_than_the_provider_reads_is_not_tried(host: Host) -> None:
    for way, tried in (("provider", 0), ("engine", 1)):
        host.has("nginx", way, way=way, keys=[{"label": "host", "certificate": "/srv/a"}])
        host.pin("7" * 32)
        refused = host.run("guard", way)
        assert refused.returncode == 1 and ("more than 31 characters" in refused.stderr) is not bool(tried) and host.logins == tried


@pytest.mark.parametrize(("result", "waits"), [("success", False), ("exit-code", True)])
def test_what_somebody_stopped_is_not_started_by_its_watch(host: Host, result: str, waits: bool) -> None:
    host.has("openssl", "mail", service="mail")
    waiting = host.home / "run/keyfleet-consumers/mail/waiting"
    waiting.parent.mkdir(parents=True)
    waiting.touch()
    assert host.run("forget", "mail", SERVICE_RESULT=result).returncode == 0 and waiting.exists() is waits


@pytest.mark.parametrize("kind", ["openbao", "sshd", "openssl"])
def test_an_empty_file_is_no_pin(host: Host, kind: str) -> None:
    host.has(kind, "any", service="any")
    host.pin("\n")
    refused = host.run("guard", "any")
    assert refused.returncode == 1 and "is empty: nothing was tried" in refused.stderr and host.logins == 0, refused.stderr


def test_a_key_that_was_written_and_not_opened_is_not_the_one_in_use(host: Host) -> None:
    host.has("vault", "own")
    keys = host.home / "etc/keyfleet-consumers/own/keys"
    assert host.run("guard", "own").returncode == 0
    host.program("sleep", "#!/bin/sh\n")
    for opened, noted in ((False, ["host", "next"]), (True, ["next"])):
        keys.write_text(keys.read_text().replace("object=host", "object=next"))
        assert not opened or host.run("guard", "own").returncode == 0
        host.note("own.uses").write_text("object=host\nobject=next\n")
        # The watch, which looks again and again, says nothing.
        assert host.run("settle", "own", "1").stdout == "" and host.run("settle", "own").stdout == (
            "" if opened else "is not seen to use\n"
        )
        assert re.findall("object=([a-z]+)", host.note("own.uses").read_text()) == noted


@pytest.mark.parametrize("refused", [False, True])
def test_nginx_is_restarted_once_where_a_reload_does_not_help(host: Host, refused: bool) -> None:
    # Doubles: handshakes are good while there is the file tls. The watch ends after its first look.
    host.program("openssl", f"#!/bin/sh\ncase $1 in s_client) test -e {host.home}/tls ;; esac\n")
    host.program("sleep", "#!/bin/sh\nexit 1\n")
    host.program("nginx", f"#!/bin/sh\necho broken >&2\ntest ! -e {host.home}/broken\n")
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    (host.home / "run/keyfleet-consumers/web").mkdir(parents=True)
    systemctl = SYSTEMCTL.replace("esac", "reload) exit 1 ;; esac") if refused else SYSTEMCTL
    tls, restart = host.home / "tls", systemctl.replace("esac", "restart) touch {home}/tls ;; esac")

    def look(*, good: bool, helps: bool) -> list[str]:
        tls.touch() if good else tls.unlink(missing_ok=True)
        (host.home / "systemctl").write_text("")
        host.program("systemctl", (restart if helps else systemctl).format(home=host.home))
        assert host.run("watch", "web").returncode == 0
        did = re.findall(r"^(reload|restart) nginx", (host.home / "systemctl").read_text(), re.MULTILINE)
        # One that is refused is tried three times.
        assert did.count("reload") == (3 if refused and did else bool(did))
        return [*dict.fromkeys(did)]

    # One that never showed its certificate may be checked at a wrong address.
    assert look(good=False, helps=True) == ["reload"]
    for _turn in range(2):
        assert look(good=True, helps=True) == []
        assert look(good=False, helps=True) == ["reload", "restart"]
    assert look(good=True, helps=False) == []
    assert [look(good=False, helps=False) for _turn in range(2)] == [["reload", "restart"], ["reload"]]
    # Its configuration is being edited: it would not come back, with all that it serves.
    (host.home / "broken").touch()
    assert look(good=True, helps=True) == []
    assert look(good=False, helps=True) == ["reload"]


def test_one_look_of_the_watch_is_one_login_that_fails(host: Host) -> None:
    """Each reload logs in, and a PIN that was never good has three tries."""
    home, real = host.home, shutil.which("pkcs11-tool")
    host.program("openssl", f"#!/bin/sh\ncase $1 in s_client) test -e {home}/tls ;; esac\n")
    host.program("sleep", "#!/bin/sh\nexit 1\n")
    host.program("systemctl", f"#!/bin/sh\ncase $1 in reload) {home}/programs/consumer guard web reload ;; esac\n")
    host.program("pkcs11-tool", FAILS.format(home=home, real=real, code=GENERAL, sees="cat"))
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    (home / "run/keyfleet-consumers/web").mkdir(parents=True)
    (home / "run/keyfleet-consumers/web/worked").touch()
    for turn in (1, 2, 3, 3):
        assert host.run("watch", "web").returncode == 0
        assert (home / "logins").read_text() == "\n" * turn
    assert host.note("web.halt").exists()
    # It uses its key: what failed before is past.
    host.note("web.failures").write_text("2\n")
    (home / "tls").touch()
    assert host.run("watch", "web").returncode == 0 and not host.note("web.failures").exists()


def test_no_service_tries_what_may_be_a_hidden_refusal_of_another(host: Host) -> None:
    for name in ("bao", "other"):
        host.has("openbao", name)
    for _turn in range(3):
        fails_to_log_in(host, GENERAL)
    done = host.run("guard", "other")
    assert done.returncode == 1 and "it is not tried again" in done.stderr and host.logins == 0
    # Where it was good for one, it is a good one for the others.
    host.pin(PIN)
    assert host.run("guard", "other").returncode == 0
    for _turn in range(3):
        assert "the token does not say that the PIN is wrong" in fails_to_log_in(host, GENERAL)


def test_another_file_behind_a_link_was_never_good(host: Host) -> None:
    for name in ("first", "second"):
        host.pin(PIN, name)
    current = host.home / "current"
    current.symlink_to("first")
    (host.home / "pin").unlink()
    (host.home / "pin").symlink_to("current")
    host.has("openbao", "bao")
    assert host.run("guard", "bao").returncode == 0
    current.unlink()
    current.symlink_to("second")
    said = [fails_to_log_in(host, GENERAL) for _turn in range(3)]
    assert ["It is not tried again" in one for one in said] == [False, False, True]


def test_what_fails_after_the_guard_is_started_again_a_few_times(host: Host) -> None:
    """The gateway may fail a login of the service itself, right after that of the guard."""
    host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
    host.program("openssl", OPENS.format(home=host.home, fails="true"))
    (host.home / "up").touch()
    run = host.home / "run/keyfleet-consumers/web"
    for turn in range(1, 6):
        assert host.run("guard", "web").returncode == 0 and not (run / "waiting").exists()
        assert host.run("forget", "web", SERVICE_RESULT="exit-code").returncode == 0
        assert (run / "waiting").exists() is (turn < 5)
    assert not host.note("web.halt").exists()
    # What ran and ended is not the watch's to start.
    assert host.run("guard", "web").returncode == 0
    (run / "opening").unlink()
    assert host.run("forget", "web", SERVICE_RESULT="signal").returncode == 0 and not (run / "waiting").exists()


def test_a_service_without_a_watch_begins_to_count_anew_after_each_good_start(host: Host) -> None:
    host.has("openbao", "bao")
    assert host.run("guard", "bao").returncode == 0
    fails_to_log_in(host, GENERAL)
    assert host.note("bao.failures").read_text() == "1\n"
    assert host.run("guard", "bao").returncode == 0 and not host.note("bao.failures").exists()
    assert host.run("forget", "bao", SERVICE_RESULT="exit-code").returncode == 0 and not host.note("bao.failures").exists()


@dataclass
class Shell:
    """A host whose sshd has the key ``host`` in an agent that runs."""

    host: Host
    public: dict[str, str]

    @property
    def uses(self) -> list[str]:
        return [line.partition("object=")[2].partition(";")[0] for line in self.host.note("shell.uses").read_text().splitlines()]

    @property
    def reloads(self) -> int:
        log = self.host.home / "systemctl"
        return log.read_text().count("try-reload-or-restart ssh") if log.exists() else 0

    def write(self, label: str, *, whole: bool = True) -> None:
        """What a run of the role writes: whole, or cut off after the first file."""
        (self.host.home / "etc/keyfleet-consumers/shell/host.pub").write_text(f"{self.public[label]}\n")
        if whole:
            [shell] = planned(
                {"name": "shell", "kind": "sshd", "library": "/x", "token": "t", "pin_file": "/x", "keys": [{"label": label}]}
            )
            part = rendered("sshd.conf", shell, client_host_keys=[], client_public_key=[self.public[label]])
            (self.host.home / "etc/ssh/sshd_config.d").mkdir(exist_ok=True)
            (self.host.home / "etc/ssh/sshd_config.d/10-keyfleet-consumer.conf").write_text(part)

    def settled(self) -> list[str]:
        """Which keys are noted after one look, where it used another one before."""
        noted = [f"pkcs11:token=payments;object={label};type=private\n" for label in ("before", "host")]
        self.host.note("shell.uses").write_text("".join(noted))
        assert self.host.run("settle", "shell", "1").returncode == 0
        return self.uses


@pytest.fixture
def shell(host: Host) -> Iterator[Shell]:
    for label, number in (("host", "01"), ("next", "02")):
        host.hsm.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", number)
    host.has("sshd", "shell")
    listed = subprocess.run(
        ["ssh-keygen", "-D", SOFTHSM], capture_output=True, text=True, check=True, env={**os.environ, **host.hsm.environment}
    )
    public = {line.rpartition(" ")[2]: line for line in listed.stdout.splitlines()}
    socket = host.home / "run/keyfleet-agent-shell/agent.sock"
    socket.parent.mkdir()
    assert host.run("guard", "shell").returncode == 0
    command = ["ssh-agent", "-D", "-a", str(socket), "-P", host.hsm.library]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **host.hsm.environment}) as agent:
        try:
            done = host.run("add", "shell")
            assert done.returncode == 0, done.stderr
            yield Shell(host, public)
        finally:
            agent.terminate()


def test_a_host_key_is_in_use_when_sshd_has_read_it_beside_its_agent(shell: Shell) -> None:
    shell.write("host")
    assert shell.settled() == ["before", "host"] and shell.reloads == 0
    assert shell.host.run("offer", "shell").stdout == "reload\n" and shell.settled() == ["host"]
    assert shell.host.run("offer", "shell").stdout == "" and shell.reloads == 1
    # sshd was started anew, perhaps before its agent.
    (shell.host.home / "process").write_text("MainPID=8\n")
    assert shell.settled() == ["before", "host"]
    assert shell.host.run("offer", "shell").stdout == "reload\n" and shell.settled() == ["host"]
    # A rotation that was cut off before sshd's own part was written: the other key works, and sshd does not offer it.
    shell.write("next", whole=False)
    assert shell.settled() == ["before", "host"]
    refused = shell.host.run("offer", "shell")
    assert refused.returncode == 1 and "is for another host key than" in refused.stderr and shell.reloads == 2
    # And one that was cut off before sshd read it.
    shell.write("next")
    assert shell.settled() == ["before", "host"]
    assert shell.host.run("offer", "shell").stdout == "reload\n" and shell.settled() == ["host"] and shell.reloads == 3


def test_the_watch_has_sshd_read_what_it_has_not(shell: Shell) -> None:
    # Which ends it after its first look.
    shell.host.program("sleep", "#!/bin/sh\nexit 1\n")
    shell.write("host", whole=False)
    assert shell.host.run("watch", "shell").returncode == 0 and shell.reloads == 0
    shell.write("host")
    for _turn in range(2):
        told = shell.host.run("watch", "shell")
        assert told.returncode == 0 and shell.reloads == 1, told.stderr
    assert shell.settled() == ["host"]
