"""How much slower the engine is than the same training as a plain PyTorch loop.

    python tests/benchmarks/fedsplit_overhead.py

LeNet-5 on 28x28 inputs, five clients, batch 64, one round a turn; engine and loop take turns on one thread, and the
ratio of each pair of turns counts. The loops are written as anyone would write them: no messages, no ledger, no clock.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.sim.build import Sim, assemble
from edgeai.fedsplit.sim.train import play_round

NUM_CLIENTS, BATCH, LR = 5, 64, 0.05


def dataset(num_samples: int) -> tuple[Dataset, list[Samples]]:
    """Random pictures of MNIST's shape: how fast a step is does not depend on what is seen."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_samples, 1, 28, 28, generator=generator)
    y = torch.randint(10, (num_samples,), generator=generator)
    whole = Samples(x, y)
    clients = [
        Samples(part_x, part_y) for part_x, part_y in zip(x.chunk(NUM_CLIENTS), y.chunk(NUM_CLIENTS), strict=True)
    ]
    return Dataset("random", whole, Samples(x[:64], y[:64]), tuple("0123456789")), clients


def batches(samples: Samples) -> list[tuple[Tensor, Tensor]]:
    """A shuffled pass."""
    rows = torch.randperm(len(samples)).split(BATCH)
    return [(samples.x[part], samples.y[part]) for part in rows]


def sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    """As in the engine."""
    return torch.optim.SGD([parameter for module in modules for parameter in module.parameters()], lr=LR)


def average(modules: list[nn.Module]) -> dict[str, Tensor]:
    """Equal shares: the clients are of one size."""
    states = [module.state_dict() for module in modules]
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}  # type: ignore[misc]


def fedavg(client: nn.Module, server: nn.Module, clients: list[Samples]) -> None:
    """One round of the whole model on every client."""
    whole = nn.Sequential(client, server)
    copies = [copy.deepcopy(whole) for _ in clients]
    for own, samples in zip(copies, clients, strict=True):
        optimizer = sgd(own)
        for x, y in batches(samples):
            optimizer.zero_grad()
            F.cross_entropy(own(x), y).backward()
            optimizer.step()
    whole.load_state_dict(average(copies))


def split_step(
    client: nn.Module, server: nn.Module, both: tuple[torch.optim.Optimizer, ...], x: Tensor, y: Tensor
) -> None:
    """A batch through both halves, with the gradient handed over at the cut."""
    z = client(x)
    sent = z.detach().requires_grad_()
    client_optimiser, server_optimiser = both
    server_optimiser.zero_grad()
    F.cross_entropy(server(sent), y).backward()
    server_optimiser.step()
    client_optimiser.zero_grad()
    z.backward(sent.grad)
    client_optimiser.step()


def relay(client: nn.Module, server: nn.Module, clients: list[Samples]) -> None:
    """One client after the other."""
    server_optimiser = sgd(server)
    for samples in clients:
        client_optimiser = sgd(client)
        for x, y in batches(samples):
            split_step(client, server, (client_optimiser, server_optimiser), x, y)


def splitfed_v2(client: nn.Module, server: nn.Module, clients: list[Samples]) -> None:
    """Batch i of every client in turn."""
    copies = [copy.deepcopy(client) for _ in clients]
    optimizers = [sgd(own) for own in copies]
    server_optimiser = sgd(server)
    for step in zip(*(batches(samples) for samples in clients), strict=True):
        for own, optimizer, (x, y) in zip(copies, optimizers, step, strict=True):
            split_step(own, server, (optimizer, server_optimiser), x, y)
    client.load_state_dict(average(copies))


def psl(client: nn.Module, server: nn.Module, clients: list[Samples]) -> None:
    """One server step on the merged batch."""
    copies = [copy.deepcopy(client) for _ in clients]
    optimizers = [sgd(own) for own in copies]
    server_optimiser = sgd(server)
    for step in zip(*(batches(samples) for samples in clients), strict=True):
        outputs = [own(x) for own, (x, _) in zip(copies, step, strict=True)]
        merged = torch.cat([z.detach() for z in outputs]).requires_grad_()
        server_optimiser.zero_grad()
        F.cross_entropy(server(merged), torch.cat([y for _, y in step])).backward()
        server_optimiser.step()
        assert merged.grad is not None
        for z, gradient, optimizer in zip(
            outputs, merged.grad.split([len(z) for z in outputs]), optimizers, strict=True
        ):
            optimizer.zero_grad()
            z.backward(gradient * len(clients))
            optimizer.step()
    client.load_state_dict(average(copies))


def local_loss(client: nn.Module, server: nn.Module, clients: list[Samples]) -> None:
    """A linear head at every client; the server learns on what comes up."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(1176, 10))
    copies = [copy.deepcopy(client) for _ in clients]
    heads = [copy.deepcopy(head) for _ in clients]
    optimizers = [sgd(own, aux) for own, aux in zip(copies, heads, strict=True)]
    server_optimiser = sgd(server)
    for step in zip(*(batches(samples) for samples in clients), strict=True):
        for own, aux, optimizer, (x, y) in zip(copies, heads, optimizers, step, strict=True):
            z = own(x)
            optimizer.zero_grad()
            F.cross_entropy(aux(z), y).backward()
            optimizer.step()
            server_optimiser.zero_grad()
            F.cross_entropy(server(z.detach()), y).backward()
            server_optimiser.step()
    client.load_state_dict(average(copies))
    head.load_state_dict(average(heads))


LOOPS: dict[str, Callable[[nn.Module, nn.Module, list[Samples]], None]] = {
    "fedavg": fedavg,
    "relay": relay,
    "splitfed-v2": splitfed_v2,
    "psl": psl,
    "local-loss": local_loss,
}


def main() -> None:
    """Prints one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=12_800, help="of all clients, a multiple of 320")
    parser.add_argument("--pairs", type=int, default=7, help="turns of each side")
    parser.add_argument("--methods", nargs="*", default=list(LOOPS), choices=list(LOOPS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, clients = dataset(options.samples)
    print(f"{'method':<12} {'loop':>8} {'engine':>8}   engine / loop: median (least - largest)")
    for kind in options.methods:
        cfg = SimConfig.model_validate(
            {"method": {"kind": kind}, "model": {"kind": "lenet5"}, "cut": "conv1", "batch": BATCH, "optim": {"lr": LR}}
        )
        sim = assemble(cfg, data, clients)
        model = copy.deepcopy(sim.setup.model.model)
        client, server = model[:1], model[1:]
        times = [pair(LOOPS[kind], client, server, clients, sim, number) for number in range(options.pairs + 1)]
        times = times[1:]  # the first turns warm up
        ratios = sorted(engine_s / loop_s for loop_s, engine_s in times)
        loop_s, engine_s = (statistics.median(side) for side in zip(*times, strict=True))
        print(
            f"{kind:<12} {loop_s:>7.2f}s {engine_s:>7.2f}s   "
            f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} - {ratios[-1]:.3f})",
            flush=True,
        )


def pair(
    loop: Callable[[nn.Module, nn.Module, list[Samples]], None],
    client: nn.Module,
    server: nn.Module,
    clients: list[Samples],
    sim: Sim,
    number: int,
) -> tuple[float, float]:
    """One turn of each, the loop first in even turns."""
    sides: list[Callable[[], object]] = [lambda: loop(client, server, clients), lambda: play_round(sim, number + 1)]
    taken_s = [0.0, 0.0]
    for side in (0, 1) if number % 2 == 0 else (1, 0):
        start_s = time.perf_counter()
        sides[side]()
        taken_s[side] = time.perf_counter() - start_s
    return taken_s[0], taken_s[1]


if __name__ == "__main__":
    main()
