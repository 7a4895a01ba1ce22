# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real children, without an HSM."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.side_by_side import Asking, side_by_side

LIMIT = 1.5  # seconds for an answer


def slow() -> Iterator[int]:
    """Longer than the limit in all, and for no answer."""
    for number in range(4):
        time.sleep(LIMIT / 3)
        yield number


def hanging() -> Iterator[int]:
    yield 7
    time.sleep(60)


def dying() -> Iterator[int]:
    yield 8
    os._exit(3)


def is_gone(child: Asking) -> bool:
    try:
        os.waitpid(child.pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_each_answer_has_its_limit_and_nobody_waits_for_another() -> None:
    closed: list[Asking] = []

    def job(*works: Callable[[], Iterator[int]]) -> Iterator[Asking]:
        for work in works:
            child = Asking(work, LIMIT, "it")
            yield child
            closed.append(child)

    begun = time.monotonic()
    side_by_side([job(slow, dying), job(hanging), job(hanging)])
    assert time.monotonic() - begun < 3 * LIMIT
    found = [(child.answers, child.error.code if child.error else None) for child in closed]
    assert sorted(found) == [([0, 1, 2, 3], None), ([7], "probe_timeout"), ([7], "probe_timeout"), ([8], "probe_crashed")]
    assert all(is_gone(child) for child in closed)


def test_no_child_lives_on_when_the_parent_is_interrupted() -> None:
    def interrupted() -> Iterator[Asking]:
        yield Asking(dying, LIMIT, "it")
        raise KeyboardInterrupt

    left = Asking(hanging, 60, "it")
    with pytest.raises(KeyboardInterrupt):
        side_by_side([iter([left]), interrupted()])
    assert is_gone(left)
