# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of Ansible share the code that Jinja has made of their templates.

Every task is a fork, which compiles anew what it templates, and its end takes that along: two fifths of what a fork does that neither
waits nor packs a module. Here the code is kept in a file, under a hash of all that it comes from. What has an error is compiled each time.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any, cast

import jinja2
from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as release
from jinja2.environment import TemplateExpression

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
# What ansible-core 2.18 lets a template set, or has set itself.
SET: tuple[str, ...] = ("block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string")
SET += ("comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks", "newline_sequence")
SET += ("keep_trailing_newline",)


def state() -> str:
    """Of who compiles: which filters are found then, and how they want to be called, is in the code."""
    texts = [file.read_text() for file in sorted(PLUGINS.glob("filter/*.py"))]
    return hashlib.sha256(repr([sys.version, jinja2.__version__, release, *texts]).encode()).hexdigest()[:12]


class Kept:
    """A folder of code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def code(self, made_of: list[object], compiled: Callable[[], CodeType]) -> CodeType:
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()
        file = self.folder / f"{name}.pyc"
        with suppress(FileNotFoundError):
            return cast("CodeType", SourcelessFileLoader(name, str(file)).get_code(name))
        code = compiled()
        fresh = file.with_suffix(f".{os.getpid()}")
        # As Python writes it: what it was made of is not looked at any more.
        fresh.write_bytes(MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
        fresh.replace(file)
        return code


def share(_callback: object, _playbook: object) -> None:
    kept = Kept(Path(os.environ.get("KEYFLEET_PACKED") or constants.ANSIBLE_HOME, f"templates-{state()}"))
    try:
        from ansible._internal._templating import _jinja_bits as bits
    except ImportError:
        share_in_older(kept)
        return
    environment: Any = bits.AnsibleEnvironment
    compile_any, compile_expression = environment.compile, environment.compile_expression
    # The code of the last expression, which Jinja hands over as a tree.
    last = threading.local()

    def options(self: Any) -> list[object]:
        """What the code comes from, beside the source."""
        context: Any = bits._TemplateCompileContext.current(optional=True)
        config = bits._TemplateConfig
        fields = [getattr(self, name) for name in bits._TEMPLATE_OVERRIDE_FIELD_NAMES]
        return [type(self), *fields, context and context.escape_backslashes, config.allow_embedded_templates, config.jinja_extensions]

    def kept_compile(self: Any, source: Any, *arguments: Any, **more: Any) -> Any:
        if isinstance(source, str):
            made_of = ["template", str(source), arguments, sorted(more.items()), *options(self)]
            return kept.code(made_of, lambda: compile_any(self, source, *arguments, **more))
        last.code = compile_any(self, source, *arguments, **more)
        return last.code

    def kept_expression(self: Any, source: str, undefined_to_none: bool = True) -> TemplateExpression:
        def compiled() -> CodeType:
            compile_expression(self, source, undefined_to_none)
            code: CodeType = last.code
            return code

        code = kept.code(["expression", str(source), *options(self)], compiled)
        return TemplateExpression(self.template_class.from_code(self, code, self.make_globals(None), None), undefined_to_none)

    environment.compile, environment.compile_expression = kept_compile, kept_expression


def share_in_older(kept: Kept) -> None:
    """With ansible-core 2.18, which compiles templates alone: an expression is one there, and what has been escaped is in its source."""
    from ansible import template

    environment: Any = template.AnsibleEnvironment
    compile_any = environment.compile

    def kept_compile(self: Any, source: Any, *arguments: Any, **more: Any) -> Any:
        made_of = [type(self), *(getattr(self, name) for name in SET), sorted(self.extensions)]
        made_of += ["template", str(source), arguments, sorted(more.items())]
        return kept.code(made_of, lambda: compile_any(self, source, *arguments, **more))

    environment.compile = kept_compile


CallbackModule = type(
    "CallbackModule",
    (CallbackBase,),
    {
        "CALLBACK_VERSION": 2.0,
        "CALLBACK_TYPE": "aggregate",
        "CALLBACK_NAME": "kept_templates",
        "CALLBACK_NEEDS_ENABLED": True,
        "v2_playbook_on_start": share,
    },
)
