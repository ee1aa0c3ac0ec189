"""GATConv and GATv2Conv of PyTorch Geometric, for the experiment `graphs` to be compared with.

Run from the root of the repository, after `cargo xtask fetch weather`, in an environment with torch
2.15.0, torch_geometric 2.8.1, networkx 3.6 and numpy 2:

    python tools/reference/graphs.py

It reads experiments/graphs/config.toml and writes experiments/graphs/reference.json: per task, layer
and seed the outputs before training and the score after the steps that are scored. Starting weights,
days and hidden stations are drawn from the library's counter-based generator, Philox4x32-10, written
again here; the networks, losses, scores and Adam are PyTorch's.
"""

import json
import os
import tempfile
import tomllib
from pathlib import Path

import networkx
import numpy as np
import torch
import torch.nn.functional as F
import torch_geometric
from torch_geometric.nn import GATConv, GATv2Conv

FOLDER = Path("experiments/graphs")
PURPOSE = 0x6773_616D
LOW = np.uint64(0xFFFF_FFFF)
LAYERS = {"gat": GATConv, "gatv2": GATv2Conv}


def philox(counter, key):
    """Ten rounds of Philox4x32 (Salmon et al., SC 2011) on arrays of counters."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k = [np.uint64(x) for x in key]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        shift = np.uint64(32)
        c = [(b >> shift) ^ c[1] ^ k[0], b & LOW, (a >> shift) ^ c[3] ^ k[1], a & LOW]
        k = [(k[0] + np.uint64(0x9E3779B9)) & LOW, (k[1] + np.uint64(0xBB67AE85)) & LOW]
    return c


class Stream:
    """Uniform numbers in (0, 1), one after the other."""

    def __init__(self, seed, purpose):
        a, b, *_ = philox([purpose, 0, 0, PURPOSE], [seed & 0xFFFF_FFFF, seed >> 32])
        self.key, self.next = [a, b], 0

    def units(self, count):
        index = np.arange(self.next, self.next + count, dtype=np.uint64)
        self.next += count
        block, lane = index // np.uint64(32), index % np.uint64(32)
        zero = np.zeros_like(index)
        words = philox(
            [block * np.uint64(16) + lane % np.uint64(16), zero, zero, zero + np.uint64(PURPOSE)],
            self.key,
        )
        first = lane < 16
        high, low = np.where(first, words[0], words[2]), np.where(first, words[1], words[3])
        bits = ((high << np.uint64(32)) | low) >> np.uint64(12)
        return (bits.astype(np.float64) + 0.5) / 2.0**52

    def choose(self, n, count):
        """`count` different numbers of 0..n, in random order."""
        found = list(range(n))
        for k, unit in enumerate(self.units(count)):
            other = k + min(int(unit * (n - k)), n - k - 1)
            found[k], found[other] = found[other], found[k]
        return found[:count]


def start(layer, stream, inputs, heads, outputs):
    """Glorot's uniform numbers in the order of the experiment; biases 0."""

    def uniform(rows, columns):
        bound = np.sqrt(6.0 / (rows + columns))
        entries = (2.0 * stream.units(rows * columns) - 1.0) * bound
        return torch.from_numpy(entries.astype(np.float32).reshape(rows, columns))

    with torch.no_grad():
        for name, x in layer.named_parameters():
            if name.endswith("bias"):
                x.zero_()
        columns = heads * outputs
        if isinstance(layer, GATConv):
            layer.lin.weight.copy_(uniform(inputs, columns).T)
            layer.att_dst.copy_(uniform(heads, outputs)[None])
            layer.att_src.copy_(uniform(heads, outputs)[None])
        else:
            # PyTorch Geometric's left map is that of sources.
            layer.lin_l.weight.copy_(uniform(inputs, columns).T)
            layer.lin_r.weight.copy_(uniform(inputs, columns).T)
            layer.att.copy_(uniform(heads, outputs)[None])
    return layer


class Network(torch.nn.Module):
    def __init__(self, kind, hidden, inputs, outputs, seed):
        super().__init__()
        layer, (heads, width) = LAYERS[kind], (hidden["heads"], hidden["width"])
        first = layer(inputs, width, heads=heads, add_self_loops=False)
        second = layer(heads * width, outputs, concat=False, add_self_loops=False)
        self.first = start(first, Stream(seed, 0), inputs, heads, width)
        self.second = start(second, Stream(seed, 1), heads * width, 1, outputs)

    def forward(self, x, edges):
        return self.second(F.elu(self.first(x, edges)), edges)


class Karate:
    sizes = (34, 2)

    def __init__(self):
        club = networkx.karate_club_graph()
        own = [tuple(map(int, line.split(","))) for line in lines("member,member", None)]
        assert sorted(own) == sorted(club.edges()), "karate-club.csv is not networkx's club"
        self.factions = torch.tensor([int(club.nodes[n]["club"] != "Mr. Hi") for n in club])
        told = [int(line.split(",")[1]) for line in lines("member,faction", "member,member")]
        assert told == self.factions.tolist()
        edges = [edge for a, b in own for edge in ((a, b), (b, a))] + [(n, n) for n in range(34)]
        self.edges = torch.tensor(edges).T
        self.x = torch.eye(34)
        self.leaders = torch.tensor([0, 33])
        self.others = torch.tensor([n for n in range(34) if n not in (0, 33)])

    def outputs(self, network):
        return network(self.x, self.edges)

    def loss(self, network, seed, step):
        scores = self.outputs(network)[self.leaders]
        return F.cross_entropy(scores, self.factions[self.leaders])

    def score(self, network):
        found = self.outputs(network).argmax(-1)
        return (found == self.factions)[self.others].double().mean().item()


def lines(first, last):
    """Those of one table of karate-club.csv."""
    own = (FOLDER / "karate-club.csv").read_text().splitlines()
    return own[own.index(first) + 1 : own.index(last) if last else None]


class Weather:
    sizes = (5, 1)

    def __init__(self, country, hiding):
        self.hiding = hiding
        z = np.load(f"models/weather/{country}_weather_2025.npz")
        degrees = np.diff(z["adjacency_indptr"])
        targets = np.repeat(np.arange(len(degrees)), degrees)
        loops = np.arange(len(degrees))
        self.edges = torch.from_numpy(np.stack([
            np.concatenate([z["adjacency_indices"], loops]), np.concatenate([targets, loops]),
        ]).astype(np.int64))
        places = np.column_stack([z["coordinates"], z["elevation_m"]])
        self.places = ((places - places.mean(0)) / places.std(0)).astype(np.float32)
        self.temperature = z["daily_temperature_midrange_c"].astype(np.float64)
        day = np.array([int(date[-2:]) for date in z["dates"]])
        self.learned = np.flatnonzero(day <= hiding["last-day"])
        self.scored = np.flatnonzero(day > hiding["last-day"])
        known = self.temperature[self.learned]
        self.mean, self.deviation = np.nanmean(known), np.nanstd(known)
        self.hidden = self.hide(Stream(0, 2), len(self.scored))

    def hide(self, stream, days):
        nodes = self.temperature.shape[1]
        return stream.units(days * nodes).reshape(days, nodes) < self.hiding["share"]

    def batch(self, days, hidden):
        t = (self.temperature[days] - self.mean) / self.deviation
        present = ~np.isnan(t)
        seen, asked = present & ~hidden, present & hidden
        place = np.broadcast_to(self.places, (*t.shape, 3))
        x = np.concatenate([np.where(seen, t, 0.0)[..., None], seen[..., None], place], -1)
        to = lambda x: torch.from_numpy(x.astype(np.float32))
        return to(x), to(np.where(asked, t, 0.0)), to(asked)

    def run(self, network, x):
        # One graph of unconnected copies: the layers take no batch.
        days, nodes, width = x.shape
        offset = (torch.arange(days) * nodes).repeat_interleave(self.edges.shape[1])
        edges = self.edges.repeat(1, days) + offset
        return network(x.reshape(-1, width), edges).view(days, nodes)

    def mean_square(self, network, x, wanted, asked):
        return ((self.run(network, x) - wanted).square() * asked).sum() / asked.sum()

    def outputs(self, network):
        return self.run(network, self.batch(self.scored[:1], self.hidden[:1])[0])[0]

    def loss(self, network, seed, step):
        stream = Stream(seed, 100 + step)
        days = self.learned[stream.choose(len(self.learned), self.hiding["batch"])]
        return self.mean_square(network, *self.batch(days, self.hide(stream, len(days))))

    def score(self, network):
        square = self.mean_square(network, *self.batch(self.scored, self.hidden))
        return square.sqrt().item() * self.deviation


def train(task, kind, settings, seed):
    network = Network(kind, settings["hidden"], *task.sizes, seed)
    adam = torch.optim.Adam(
        network.parameters(), lr=settings["learning-rate"], weight_decay=settings["weight-decay"]
    )
    with torch.no_grad():
        outputs = task.outputs(network).flatten().tolist()
    run = {"start": [float(f"{x:.8g}") for x in outputs], "scores": []}
    for step in range(max(settings["scored"]) + 1):
        if step in settings["scored"]:
            with torch.no_grad():
                run["scores"].append(float(task.score(network)))
        adam.zero_grad()
        task.loss(network, seed, step).backward()
        adam.step()
    return run


def main():
    # The published vectors (Random123, kat_vectors), as in the library.
    assert [int(x) for x in philox([0] * 4, [0] * 2)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    torch.set_num_threads(1)
    config = tomllib.loads((FOLDER / "config.toml").read_text())
    tasks = {country: Weather(country, config["hiding"]) for country in ["us", "australia"]}
    tasks["karate"] = Karate()
    runs = {}
    for name, task in tasks.items():
        settings = config["karate" if name == "karate" else "weather"]
        runs[name] = {}
        for kind in LAYERS:
            own = [train(task, kind, settings, seed) for seed in config["seeds"]]
            runs[name][kind] = own
            last = np.array([run["scores"][-1] for run in own])
            print(f"{name} {kind}: {last.mean():.4f} ± {last.std(ddof=1):.4f}")
    versions = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    reference = {"versions": versions, "runs": runs}
    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        fresh = os.path.join(folder, "fresh")
        Path(fresh).write_text(json.dumps(reference, separators=(",", ":")) + "\n")
        os.replace(fresh, FOLDER / "reference.json")
    print(f"{FOLDER / 'reference.json'}: {(FOLDER / 'reference.json').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
