# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans as text tables: a row is a situation, a column what is asked for, a cell the actions, or ``!`` and a word for the problem."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plain_plans import Answer

# The word of a table for a problem, and what the problem says. The first that fits counts.
PROBLEMS = {
    "not-said": "the token does not report",
    "not-taken": "The key that is there was left as it is",
    "now-differs": "is not what is declared",
    "now-lost": "was lost by the token",
    "now-unusable": "so the earlier ones are not destroyed",
    "certified": "a certificate, CKA_ID",
    "imported": "it was imported by somebody",
    "gone": "is gone from the token",
    "lost": "is not on the token that serves",
    "absent": "there is no key",
    "retired": "does not become active again",
    "move": "and cannot become",
    "away": "was last found on another token",
    "policy": "does not apply changes to",
    "stranger": "declare it present first",
    "others": "belongs to group",
    "given-up": "was left with its public half",
    "no-pair": "has no public half",
    "no-public": "the public half is not on the token",
    "whole": "it was whole when it was recorded",
    "public": "the registry has it as a public key alone",
    "repair": "say repair: true",
    "unknown": "nothing tells what its public key was",
    "apart": "the public key that is known does not belong to it",
    "untold": "cannot be told",
    "frozen": "not modifiable",
    "for-good": "was made with destroyable: false",
    "differs": "exists and differs",
    "several": "several objects on the token have the label",
    "exchanged": "another key than the one that was recorded",
    "type": "the key is of type",
    "halves": "two halves",
    "unusable": "using it once failed",
}


def in_words(answer: Answer) -> str:
    """A cell of a table: the actions in order, or every problem."""
    if not answer.problems:
        return "+".join(plan.action for plan in answer.plans)
    found = [next((word for word, text in PROBLEMS.items() if text in problem), problem) for problem in answer.problems]
    return "+".join(f"!{word}" for word in found)


def rows_of(table: str) -> Iterator[tuple[str, str, str]]:
    """Each cell of a text table as (row, column, words). Two blanks or more stand between cells; the first line names the columns."""
    lines = [re.split(" {2,}", line.strip()) for line in table.strip().splitlines()]
    columns = lines[0][1:]
    for name, *cells in lines[1:]:
        assert len(cells) == len(columns), name
        yield from ((name, column, words) for column, words in zip(columns, cells, strict=True))
