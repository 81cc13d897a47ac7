"""Imports our Worker's modules within requests, so that each can be measured from outside. Never deployed: not in src/.

A Worker can't take these times itself: its clock stands still while it computes.
"""

# mypy: ignore-errors
# js and workers exist inside workerd only.

import builtins
import importlib
import json
import sys

from js import Response
from workers import WorkerEntrypoint


class Default(WorkerEntrypoint):
    """/order: imports the Worker and tells the modules; /import/NAME: imports one."""

    async def fetch(self, request):
        what = str(request.url).rpartition("/")[2]
        if what == "order":
            return Response.new(json.dumps(order_of("entry")))
        importlib.import_module(what)
        return Response.new("done")


def order_of(name):
    """What the import adds to sys.modules, each after all that it needs."""
    ready, known, own_import = [], set(sys.modules), builtins.__import__

    def note():
        for each, module in list(sys.modules.items()):
            if each not in known and not getattr(getattr(module, "__spec__", None), "_initializing", False):
                known.add(each)
                ready.append(each)

    def noticing(*args, **kwargs):
        try:
            return own_import(*args, **kwargs)
        finally:
            note()

    builtins.__import__ = noticing
    try:
        importlib.import_module(name)
    finally:
        builtins.__import__ = own_import
    note()
    return ready
