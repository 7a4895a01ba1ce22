# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The call of a child, read by its parent."""

from __future__ import annotations

import os
import signal

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.underway import Call, Page

SHORT, LONG = Call("a", "C_A", writes=True), Call("generating key 'ü' " * 20, "C_GenerateKeyPair")


def test_what_is_written_is_read() -> None:
    page = Page()
    assert page.read() == Call()
    for call in (SHORT, Call(), LONG, LONG, SHORT):
        page.write(call)
        assert (page.read().function, page.read().writes) == (call.function, call.writes)
        assert call.doing.startswith(page.read().doing)


def test_it_is_read_while_another_process_writes() -> None:
    page = Page()
    page.write(LONG)
    writer = os.fork()
    if writer == 0:
        while True:
            page.write(SHORT)
            page.write(LONG)
    try:
        found = {page.read().function for _time in range(20_000)}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert found - {""} == {"C_A", "C_GenerateKeyPair"}
