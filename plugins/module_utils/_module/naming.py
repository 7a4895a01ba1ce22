# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Messages that name what a person wrote: a variable of an inventory, where a play handed it to the option that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

# Where a problem begins: the text, a line of a list, or the next one of a line.
_BEGIN = r"(?:\A|(?<=\n)|(?<=\n- )|(?<=; ))"
_FIELD = r"(?=[\[.:]| \()"


def naming(names: Mapping[str, str] | None, options: Iterable[str]) -> Callable[[str], str]:
    """A function that puts the names of variables into a message. ``names`` has them by option; ``*`` stands for each other option, and in
    its variable for the option's name. A name of several words is a way out that the message says: ``hsm_sync with repair``."""
    if not names:
        return str
    every = str(names.get("*", "*"))
    table = {option: str(names.get(option, every.replace("*", option))) for option in options}
    begins = re.compile(f"{_BEGIN}({_any(table)}){_FIELD}")
    # "say repair: wrap", which is the variable's to say.
    words = {name: str(names[name]) for name in names if name in table or " " in name}
    said = re.compile(rf"(?<![\w.\]])({_any(words)})(?=:\s\w)") if words else None

    def named(message: str) -> str:
        begun = begins.sub(lambda found: table[found[1]], message)
        return said.sub(lambda found: words[found[1]], begun) if said is not None else begun

    return named


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))
