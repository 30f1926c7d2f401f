"""All decoders of the campaign, by name.

A new one is a line in one of the `*_decoders` modules; records are found by themselves.
"""

from functools import cache

from benchmarks.lab.fuzz.decoder import Decoder
from benchmarks.lab.fuzz.disk_decoders import make_disk_decoders
from benchmarks.lab.fuzz.inference_decoders import make_inference_decoders
from benchmarks.lab.fuzz.model_decoders import make_model_decoders
from benchmarks.lab.fuzz.record_decoders import make_record_decoders
from benchmarks.lab.fuzz.row_decoders import make_row_decoders
from benchmarks.lab.fuzz.text_decoders import make_text_decoders
from benchmarks.lab.fuzz.wire_decoders import make_wire_decoders
from benchmarks.lab.records import LabError


@cache
def get_decoders() -> dict[str, Decoder]:
    """Return every decoder by its name."""
    others = (make_wire_decoders, make_text_decoders, make_row_decoders, make_disk_decoders, make_model_decoders,
              make_inference_decoders)  # fmt: skip
    decoders = (*make_record_decoders(), *(decoder for make in others for decoder in make()))
    by_name = {decoder.name: decoder for decoder in decoders}
    assert len(by_name) == len(decoders), "two decoders share a name"
    return by_name


def get_decoder(name: str) -> Decoder:
    """Return a decoder; raises LabError when there is none of that name."""
    decoder = get_decoders().get(name)
    if decoder is None:
        raise LabError(f"found no decoder {name!r}, expected one of {', '.join(get_decoders())}")
    return decoder
