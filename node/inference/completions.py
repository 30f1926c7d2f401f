"""OpenAI's completions in our terms: what a body may ask for, and the shapes of answers and errors.

Fields that would change a text and that this model does not have are refused unless they are neutral; an unknown field
is refused too. It knows no socket and runs no pass. Source: OpenAI's API reference, completions.
"""

from dataclasses import dataclass
from typing import TypeVar

from chain.errors import MathesisError
from ml.answer import OUTPUT_BYTES_MAX, PROMPT_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX, Request
from ml.answering import Traced
from node.models.errors import ModelError
from node.models.sample import START, TextDecoder, parse_temperature
from node.rpc.jsontext import Json

T = TypeVar("T")
Fields = dict[str, Json]

COUNT_DEFAULT = 16
TEMPERATURE_DEFAULT = 1
NEUTRAL: dict[str, tuple[Json, ...]] = {
    "n": (1, None),
    "best_of": (1, None),
    "top_p": (1, 1.0, None),
    "frequency_penalty": (0, 0.0, None),
    "presence_penalty": (0, 0.0, None),
    "echo": (False, None),
    "logprobs": (None,),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
}
"""Fields of the API that this server knows in one meaning alone: that nothing is asked for."""
_READ = ("model", "prompt", "max_tokens", "temperature", "top_k", "seed", "stop", "stream", "stream_options", "user")


class ApiError(MathesisError):
    """A request is refused; carries what OpenAI's error object says."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        """Keep the HTTP `status`, the field that is at fault and a stable `code`."""
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> Fields:
        """Return the error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion that was asked for."""

    request: Request
    model: str
    is_stream: bool
    has_usage: bool
    """Whether a stream ends with a chunk that counts bytes."""
    prompt_bytes: int
    """Bytes of the prompt as it was sent; an empty one stands for a new line."""


def parse_completion(fields: Json) -> Completion:
    """Return the completion that a body asks for; raises ApiError."""
    if not isinstance(fields, dict):
        raise ApiError(400, "found no JSON object, expected one", code="invalid_json")
    for name, value in fields.items():
        if name in NEUTRAL:
            _refuse_meaning(name, value)
        elif name not in _READ:
            raise ApiError(400, f"found the unknown field {name!r:.80}", _clip(name), "unknown_parameter")
    prompt = _read_prompt(fields)
    top_k, is_stream = _read_int(fields, "top_k", 0, (0, 65_535)), _read_bool(fields, "stream")
    request = Request(
        prompt=prompt or START,
        count=_read_int(fields, "max_tokens", COUNT_DEFAULT, (1, OUTPUT_BYTES_MAX)),
        temperature_f16=_read_temperature(fields),
        top_k=top_k,
        seed=_read_int(fields, "seed", 0, (0, (1 << 64) - 1)),
        stops=_read_stops(fields),
    )
    return Completion(request, _read_text(fields, "model"), is_stream, _read_usage(fields, is_stream), len(prompt))


def make_text(completion: Completion, output: bytes) -> str:
    """Return the characters of a whole output, without the stop that ended it."""
    kept = strip_stop(completion.request, output)
    return TextDecoder(completion.request.prompt).decode(kept, is_last=True)


def strip_stop(request: Request, output: bytes) -> bytes:
    """Return an output without the longest stop that it ends with."""
    lengths = [len(stop) for stop in request.stops if output.endswith(stop)]
    return output[: len(output) - max(lengths, default=0)]


def count_certain(request: Request, output: bytes) -> int:
    """Return how many bytes of an output under way belong to its text, whatever comes: none that may begin a stop."""
    held = 0
    for stop in request.stops:
        lengths = (n for n in range(min(len(stop), len(output)), 0, -1) if output.endswith(stop[:n]))
        held = max(held, next(lengths, 0))
    return len(output) - held


def make_choice(text: str, finish_reason: str | None) -> Fields:
    """Return the one choice of an answer or of a piece of it."""
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}


def get_finish_reason(traced: Traced) -> str:
    """Say what ended an output, in OpenAI's words."""
    return "stop" if strip_stop(traced.answer.request, traced.answer.output) != traced.answer.output else "length"


def make_usage(completion: Completion, traced: Traced) -> Fields:
    """Return the counts of bytes; a stop counts, for it was drawn."""
    drawn = len(traced.answer.output)
    prompt = completion.prompt_bytes
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


def _refuse_meaning(name: str, value: Json) -> None:
    # 1 and True are equal in Python and are not in JSON.
    if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in NEUTRAL[name]):
        expected = " or ".join(repr(each) for each in NEUTRAL[name])
        raise ApiError(400, f"found {name} {value!r:.80}, expected {expected}", name, "unsupported_value")


def _read_prompt(fields: Fields) -> bytes:
    prompt = _read_text(fields, "prompt").encode()
    if len(prompt) > PROMPT_BYTES_MAX:
        message = f"found a prompt of {len(prompt)} bytes, expected at most {PROMPT_BYTES_MAX}"
        raise ApiError(400, message, "prompt", "context_length_exceeded")
    return prompt


def _read_text(fields: Fields, name: str) -> str:
    if name not in fields:
        raise ApiError(400, f"found no {name}, expected a text", name, "missing_required_parameter")
    return _expect(fields[name], str, name, "a text")


def _read_int(fields: Fields, name: str, default: int, bounds: tuple[int, int]) -> int:
    value = fields.get(name)
    if value is None:
        return default
    number = _expect(value, int, name, "an integer")
    if not bounds[0] <= number <= bounds[1]:
        raise ApiError(400, f"found {name} {number}, expected {bounds[0]} to {bounds[1]}", name, "out_of_range")
    return number


def _read_bool(fields: Fields, name: str) -> bool:
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise ApiError(400, f"found {name} {value!r:.80}, expected true or false", name, "invalid_type")


def _read_temperature(fields: Fields) -> int:
    value = fields.get("temperature")
    number = TEMPERATURE_DEFAULT if value is None else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ApiError(400, f"found temperature {value!r:.80}, expected a number", "temperature", "invalid_type")
    try:
        temperature_f16 = parse_temperature(str(number))
    except ModelError as error:
        raise ApiError(400, str(error), "temperature", "out_of_range") from None
    if temperature_f16 >= 1 << 32:
        raise ApiError(400, f"found temperature {number}, expected at most 64", "temperature", "out_of_range")
    return temperature_f16


def _read_stops(fields: Fields) -> tuple[bytes, ...]:
    value = fields.get("stop")
    texts = [] if value is None else [value] if isinstance(value, str) else _expect(value, list, "stop", "texts")
    stops = tuple(_expect(text, str, "stop", "texts").encode() for text in texts)
    if len(stops) > STOPS_MAX or not all(1 <= len(stop) <= STOP_BYTES_MAX for stop in stops):
        expected = f"at most {STOPS_MAX} of 1 to {STOP_BYTES_MAX} bytes"
        raise ApiError(400, f"found {len(stops)} stops, expected {expected}", "stop", "out_of_range")
    return stops


def _read_usage(fields: Fields, is_stream: bool) -> bool:
    value = fields.get("stream_options")
    if value is None:
        return False
    options = _expect(value, dict, "stream_options", "an object")
    if not is_stream or not options.keys() <= {"include_usage"}:
        message = "found stream_options, expected them with stream, and include_usage alone"
        raise ApiError(400, message, "stream_options", "unsupported_value")
    return _read_bool(options, "include_usage")


def _expect(value: Json, kind: type[T], name: str, expected: str) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ApiError(400, f"found {name} {value!r:.80}, expected {expected}", name, "invalid_type")
    return value


def _clip(text: str) -> str:
    return text[:80]
