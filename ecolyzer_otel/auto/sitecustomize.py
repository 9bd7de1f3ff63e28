"""Put first on ``PYTHONPATH`` by ``ecolyzer-instrument``: runs in every Python process of the service.

Auto-instrumentation takes longer to import than many scripts take to run. So it waits for the
first import of something that is not of the standard library; a process that never gets there (a supervisor, a
resource tracker, ``python -c pass``) pays next to nothing and stays as it is. A ``sitecustomize`` that this one
hides is run as well.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_NEVER = frozenset({"sitecustomize", "usercustomize", "apport_python_hook"})


class _FirstImport:
    """A finder that finds no modules itself: it only notices the first import from outside the standard library."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is None and name not in sys.stdlib_module_names and name not in _NEVER:
            cls.leave()
            _initialize()
            # The import system iterates over this list by position: for this one import it would skip finders that
            # were just inserted in front (the hooks that patch a framework).
            for finder in list(sys.meta_path):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    @classmethod
    def leave(cls):
        if cls in sys.meta_path:
            sys.meta_path.remove(cls)


def _initialize():
    # Not in processes that are started meanwhile (by a resource detector), which would start further ones.
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in before.split(os.pathsep) if p and p != _HERE)
    try:
        from ecolyzer_otel.boot.auto_instrumentation import initialize

        initialize()
    except ImportError:
        pass  # another interpreter, without our packages: silent
    finally:
        os.environ["PYTHONPATH"] = before


def _run_hidden():
    """Run the ``sitecustomize`` that this one hides."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    others = [p for p in sys.path if p != _HERE and not p.endswith(os.path.join("", "auto_instrumentation"))]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


# A service may start an older interpreter than ours, where this file must do no harm.
if sys.version_info >= (3, 10):
    # Python's own finders come after: by then everything is patched.
    sys.meta_path.insert(0, _FirstImport)
if sys.version_info >= (3, 5):
    _run_hidden()
