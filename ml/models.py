"""From a spec to its program: the one place that knows every model.

A new model adds its record to `ml.spec`, a module that writes its program down, and a line here.
"""

from functools import lru_cache

from ml.decoder import build_decoder
from ml.mlp import build_mlp
from ml.program import Program
from ml.spec import Mlp, Spec

PROGRAMS_KEPT = 64
"""In memory, of up to 1.7 MB each. Strangers send specs too, whose tasks are refused after their programs are made."""


@lru_cache(PROGRAMS_KEPT)
def build_program(spec: Spec) -> Program:
    """Return the program of `spec`, which must be valid."""
    if isinstance(spec.model, Mlp):
        return build_mlp(spec, spec.model)
    return build_decoder(spec, spec.model)
