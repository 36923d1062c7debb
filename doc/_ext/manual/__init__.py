# SPDX-License-Identifier: Apache-2.0
"""What the manual takes from the code itself, so that the two cannot differ.

Options, commands, the RPC API, errors and release notes are read from their objects at
each build.  The help of an option or a command is written for a terminal, as
plain text with examples laid out by hand; it is shown as it is, where
``oslo_config.sphinxext`` and ``cliff.sphinxext`` would read it as
reStructuredText and stumble over an asterisk.
"""

import typing as ty

from sphinx.application import Sphinx

from manual import commands, failures, insight, messages, notes, options, quotes, remote


def setup(app: Sphinx) -> dict[str, ty.Any]:
    app.add_directive("worker-options", options.WorkerOptions)
    app.add_directive("nova-options", options.NovaOptions)
    app.add_directive("worker-commands", commands.Commands)
    app.add_directive("worker-rpc", remote.Methods)
    app.add_directive("worker-payloads", remote.Payloads)
    app.add_directive("worker-metrics", insight.Metrics)
    app.add_directive("worker-notifications", insight.Notifications)
    app.add_directive("worker-notification-fields", insight.NotificationFields)
    app.add_directive("worker-errors", failures.Errors)
    app.add_directive("worker-catalogue", messages.Catalogue)
    app.add_directive("worker-witnesses", failures.Witnesses)
    app.add_directive("worker-release-notes", notes.ReleaseNotes)
    app.add_config_value("manual_quoting_pages", [], "env", [list])
    app.connect("doctree-read", quotes.check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
