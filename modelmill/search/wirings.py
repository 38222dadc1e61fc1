"""Random graphs as cells: three classic models of networks, directed from input to output."""

from __future__ import annotations

import numpy as np

Random = np.random.Generator
Pairs = set[tuple[int, int]]
"""Edges between nodes 1 ... n, the smaller first."""


def erdos_renyi(nodes: int, density: float, random: Random) -> Pairs:
    """Every pair is joined with the probability `density`.

    Erdos, Renyi (1959), Publicationes Mathematicae 6:290-297
    """
    return {(i, j) for i in range(1, nodes + 1) for j in range(i + 1, nodes + 1) if random.random() < density}


def watts_strogatz(nodes: int, near: int, rewire: float, random: Random) -> Pairs:
    """A ring in which each node is joined to its `near` nearest, each edge turned elsewhere with probability `rewire`.

    Watts, Strogatz (1998), https://doi.org/10.1038/30918
    """
    found: Pairs = set()
    for step in range(1, min(near // 2, (nodes - 1) // 2 or 1) + 1 if nodes > 1 else 1):
        for node in range(1, nodes + 1):
            other = (node - 1 + step) % nodes + 1
            if random.random() < rewire:
                free = [i for i in range(1, nodes + 1) if i != node and _pair(node, i) not in found]
                other = int(random.choice(free)) if free else other
            found.add(_pair(node, other))
    return found


def barabasi_albert(nodes: int, attach: int, random: Random) -> Pairs:
    """Nodes come one by one, and each is joined to `attach` earlier ones, rather to those that have many edges.

    Barabasi, Albert (1999), https://doi.org/10.1126/science.286.5439.509
    """
    found: Pairs = set()
    ends = list(range(1, min(attach, nodes) + 1))
    for node in range(attach + 1, nodes + 1):
        chosen: set[int] = set()
        while len(chosen) < min(attach, node - 1):
            chosen.add(int(random.choice(ends)))
        found |= {(other, node) for other in chosen}
        ends += [*chosen, *[node] * len(chosen)]
    return found


def reads(nodes: int, pairs: Pairs) -> dict[int, set[int]]:
    """Who reads what when edges run from smaller to larger nodes: sources read the input, the output reads the ends.

    >>> reads(3, {(1, 2)})
    {1: {0}, 2: {1}, 3: {0}, 4: {2, 3}}

    Xie, Kirillov, Girshick, He (2019), https://arxiv.org/abs/1904.01569
    """
    found = {node: {i for i, j in pairs if j == node} or {0} for node in range(1, nodes + 1)}
    read = {i for i, _ in pairs}
    return found | {nodes + 1: {node for node in range(1, nodes + 1) if node not in read}}


def _pair(one: int, two: int) -> tuple[int, int]:
    return min(one, two), max(one, two)
