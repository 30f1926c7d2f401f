"""Integer training and the same model in float32, step against step: `python -m benchmarks.training_step --width 256`.

Both train the byte decoder of `ml.decoder` on the same batch shape with Adam: here by the compiled backend, there by
PyTorch with its fastest own parts (fused attention, fused AdamW). Steps of both alternate, so that a busy machine slows
both (a very busy one is unfair to whoever waits for threads more often: then compare processor time on one thread).
Medians, their ratio and its spread are printed, then where the integer step's time goes and what both hold in memory.
Losses are compared elsewhere.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chain.primitives import Hash
from ml.arithmetic import IntArray
from ml.backends.cpu.backend import CpuBackend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Text
from ml.fusion import FusedBackend, get_plan, run_fused
from ml.models import build_program
from ml.prf import compute_key
from ml.program import Op
from ml.segment import Runner, compute_initial_state, run_op
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.training import StepResult, run_training_step
from node.threads import spread_over_threads

TEXT_BYTES = 1 << 18


class Block(nn.Module):
    """A pre-norm block: causal attention, then a ReLU-squared layer."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model
        self.qkv = nn.Linear(model.width, 3 * model.width, bias=False)
        self.out = nn.Linear(model.width, model.width, bias=False)
        self.up = nn.Linear(model.width, model.hidden, bias=False)
        self.down = nn.Linear(model.hidden, model.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (batch, context, width)."""
        batch, context, width = x.shape
        qkv = self.qkv(functional.rms_norm(x, (width,))).view(batch, context, 3, self.model.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).reshape(batch, context, width))
        inner: torch.Tensor = x + self.down(functional.relu(self.up(functional.rms_norm(x, (width,)))).square())
        return inner


class FloatDecoder(nn.Module):
    """The decoder of `ml.decoder` with learned positions, in float32."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.embedding = nn.Embedding(model.vocabulary, model.width)
        self.positions = nn.Embedding(model.context, model.width)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.head = nn.Linear(model.width, model.vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, context, vocabulary)."""
        x = self.embedding(tokens) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(functional.rms_norm(x, (x.shape[-1],)))
        return logits


class FloatTrainer:
    """One step of float32 training at a time."""

    def __init__(self, spec: Spec, model: Decoder, threads: int) -> None:
        self.threads = threads
        self.network = FloatDecoder(model)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=True)
        self.tokens, self.targets = (torch.randint(0, 256, (spec.batch, model.context)) for _ in range(2))

    def step(self) -> None:
        """Train once."""
        torch.set_num_threads(self.threads)
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.network(self.tokens).flatten(0, 1), self.targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        self.optimizer.step()

    def measure_saved_bytes(self) -> int:
        """Return the bytes that the forward pass keeps for the backward pass, parameters not counted."""
        owned = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in owned:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = functional.cross_entropy(self.network(self.tokens).flatten(0, 1), self.targets.flatten())
        del loss
        return sum(saved.values())

    def measure_state_bytes(self) -> int:
        """Return the bytes of parameters and both moments."""
        return 3 * sum(parameter.nbytes for parameter in self.network.parameters())


class IntegerTrainer:
    """One step of integer training at a time."""

    def __init__(self, spec: Spec, threads: int) -> None:
        self.program = build_program(spec)
        checkpoint = compute_initial_checkpoint(self.program)
        stream = np.random.default_rng(0).integers(32, 127, TEXT_BYTES).astype(np.uint8)
        text = Text(stream, stream[:4096], Hash(bytes(32)))
        self.runner = Runner(self.program, CpuBackend(spread_over_threads(threads)), text, bytes(32), checkpoint)
        self.state = compute_initial_state(self.program, checkpoint)
        self.number = 0

    def step(self) -> StepResult:
        """Train once."""
        result = run_training_step(self.runner, self.number, self.state)
        self.state = result.state
        self.number += 1
        return result

    def profile(self, into: Counter[str]) -> None:
        """Add the processor's nanoseconds of each op, or run of ops, of a step that is thrown away, by kind."""
        tensors: dict[int, IntArray] = dict(zip(self.program.state_inputs, self.state, strict=True))
        backend, seed = self.runner.backend, self.runner.segment_seed
        assert isinstance(backend, FusedBackend)
        for item in get_plan(self.program):
            inputs = [tensors[tensor] for tensor in item.inputs]
            start_ns = time.process_time_ns()
            if isinstance(item, Op):
                outputs = run_op(self.runner, self.number, item, inputs)
                name = f"{item.kind.name}{' stochastic' * item.is_stochastic}"
            else:
                get_key = partial(compute_key, seed, self.number)
                outputs, name = run_fused(backend, self.program.spec, item, inputs, get_key), item.kind.name
            into[name] += time.process_time_ns() - start_ns
            tensors.update(zip(item.outputs, outputs, strict=True))

    def measure_state_bytes(self) -> int:
        """Return the bytes of parameters and both moments."""
        return sum(array.nbytes for array in self.state)


def measure(step: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds that a step took, on the wall and of all processors."""
    start_ns, start_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    step()
    return (time.perf_counter_ns() - start_ns) / 1e6, (time.process_time_ns() - start_cpu_ns) / 1e6


def print_profile(trainer: IntegerTrainer, repeats: int) -> None:
    """Print the time and share of each kind of op, when ops run one by one."""
    profiles: list[Counter[str]] = []
    for _ in range(repeats):
        profiles.append(Counter())
        trainer.profile(profiles[-1])
    best = {kind: min(profile[kind] for profile in profiles) for kind in profiles[0]}
    total = sum(best.values())
    print(f"by op, processor time {total / 1e6:.1f} ms")
    for kind, took_ns in sorted(best.items(), key=lambda item: -item[1]):
        print(f"  {kind:44} {took_ns / 1e6:7.2f} ms {took_ns / total:6.1%}")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    model = Decoder(256, options.context, options.width, options.layers, options.width // options.head_width,
                    4 * options.width, Positions.LEARNED, 0)  # fmt: skip
    spec = replace(DIGITS, model=model, batch=options.batch, segment_steps=10_000, learning_rate=1 << 22)
    integer, floating = IntegerTrainer(spec, options.threads), FloatTrainer(spec, model, options.threads)
    for warm_up in (integer.step, floating.step):
        warm_up()
        warm_up()
    held = integer.step().bytes_held_max
    times = [(measure(integer.step), measure(floating.step)) for _ in range(options.steps)]
    print(f"width {options.width}, {options.layers} layers, {options.threads} threads, {options.steps} steps each")
    for clock, name in enumerate(("wall", "processor")):
        ours, theirs = ([pair[side][clock] for pair in times] for side in range(2))
        ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
        low, middle, high = (ratios[int(len(ratios) * part)] for part in (0.1, 0.5, 0.9))
        print(f"{name} time")
        print(f"  integer {statistics.median(ours):.1f} ms (least {min(ours):.1f})")
        print(f"  float32 {statistics.median(theirs):.1f} ms (least {min(theirs):.1f})")
        print(
            f"  ratio {middle:.2f} (10 % to 90 %: {low:.2f} to {high:.2f}), of the least {min(ours) / min(theirs):.2f}"
        )
    saved, state = floating.measure_saved_bytes(), floating.measure_state_bytes()
    print(f"activations {held / 2**20:.1f} MiB, float32 {saved / 2**20:.1f} MiB, ratio {held / saved:.2f}")
    own = integer.measure_state_bytes()
    print(f"parameters and moments {own / 2**20:.1f} MiB, float32 {state / 2**20:.1f} MiB, ratio {own / state:.2f}")
    if options.profile:
        print_profile(integer, options.profile)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Integer and float32 training of one decoder, step against step")
    for name, default in (("width", 256), ("layers", 4), ("context", 128), ("batch", 16), ("head-width", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("threads", 2), ("steps", 15), ("profile", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
