"""The model card of an export: what the model is, what it was trained on, how good it is, and how to use it.

It is text for people, with the front matter that model hubs read. All its numbers come from the provenance.
"""

from ml.spec import Decoder, Mlp, Spec
from node.models.describe import Totals
from node.models.provenance import Origin, Provenance
from node.models.rates import format_rate


def write_card(name: str, spec: Spec, totals: Totals, provenance: Provenance) -> bytes:
    """Return README.md of a model called `name`."""
    parts = [
        _make_front_matter(provenance),
        f"# {name}\n\n{_describe_model(spec.model, totals)} It was trained in integers: the spec, the data and the seed"
        " below give the same weights, bit by bit, on every machine.\n",
        f"## Training\n\n{_make_table(_list_facts(spec, provenance))}",
        f"## Evaluation\n\n{_describe_evaluation(provenance)}\n",
        f"## Data\n\n{_describe_data(provenance)}\n",
        _USE if isinstance(spec.model, Decoder) else _USE_MLP,
        _FILES,
    ]
    return "\n".join(parts).encode()


def _make_front_matter(provenance: Provenance) -> str:
    lines = ["library_name: pytorch", "tags:", "- mathesis", "- integer-training"]
    if provenance.data.name:
        lines += ["datasets:", f"- {provenance.data.name}"]
    return "\n".join(["---", *lines, "---", ""])


def _describe_model(model: Mlp | Decoder, totals: Totals) -> str:
    if isinstance(model, Mlp):
        widths = ", ".join(map(str, model.widths))
        return f"A classifier of {totals.parameters:,} parameters with layers of {widths} units."
    return (
        f"A causal language model over bytes of {totals.parameters:,} parameters: {model.layers} layers,"
        f" width {model.width}, {model.heads} heads, context {model.context}."
    )


def _list_facts(spec: Spec, provenance: Provenance) -> list[tuple[str, str]]:
    return [
        ("spec hash", f"`{provenance.spec_hash}`"),
        ("data root", f"`{provenance.data.root}`"),
        ("seed", f"`{provenance.seed}`"),
        ("steps", f"{provenance.steps} of {spec.segment_steps}"),
        ("batch", f"{spec.batch} {'sequences' if isinstance(spec.model, Decoder) else 'examples'}"),
        ("learning rate", format_rate(spec.learning_rate)),
        ("weight decay", format_rate(spec.weight_decay)),
        ("checkpoint", f"`{provenance.checkpoint_digest}`"),
        ("lineage", "; ".join(_describe_origin(origin) for origin in provenance.lineage)),
    ]


def _describe_origin(origin: Origin) -> str:
    place = f" from the checkpoint `{origin.start}`" if origin.start else ""
    return f"{origin.kind}, {origin.steps} steps{place}"


def _make_table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows), ""])


def _describe_evaluation(provenance: Provenance) -> str:
    found = provenance.evaluation
    if found is None:
        return "None was made for this export."
    article = "an" if found.per == "example" else "a"
    share = f"{found.correct} of {found.count} ({found.accuracy})"
    return f"Held-out data: {found.bits} bits {article} {found.per}; the likeliest answer is right for {share}."


def _describe_data(provenance: Provenance) -> str:
    data = provenance.data
    if not data.name:
        return "Known by its root alone; its licence is not known here."
    return f"`{data.name}`, licence {data.licence}. {data.attribution}"


_USE = """## Use

```python
import torch
from modeling_mathesis import Mathesis

model = Mathesis(".")
tokens = torch.tensor([list(b"To be, or not to be")])
print(bytes([model(tokens)[0, -1].argmax()]))
```
"""
_USE_MLP = """## Use

```python
import torch
from modeling_mathesis import Mathesis

model = Mathesis(".")
print(model(torch.zeros(1, model.config["widths"][0])).argmax())
```
"""
_FILES = """## Files

`model.safetensors` holds the integers that were trained: a value is the stored number times two to the exponent in the
metadata. `float/model.safetensors` is the same in float32. `provenance.json` names everything that decides the weights,
and the SHA-256 of every file here.
"""
