"""How far generated examples are from real ones: three distances between features."""

from __future__ import annotations

import numpy as np

BANDWIDTHS = (0.5, 1.0, 2.0)  # of the kernels, in median distances between real examples
NEIGHBOURS = 5  # of coverage (Naeem et al. 2020)


def mmd(real: np.ndarray, ours: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD of features [N, D] (Gretton et al. 2012, eq. 3).

    Gaussian kernels of three bandwidths, averaged; it can be a little below zero.
    """
    n, m = len(real), len(ours)
    rr, oo, ro = _distances(real, real), _distances(ours, ours), _distances(real, ours)
    median = np.median(rr[np.triu_indices(n, 1)])
    total = 0.0
    for factor in BANDWIDTHS:
        width = 2 * max(factor * median, 1e-12) ** 2
        k_rr, k_oo, k_ro = (np.exp(-(d**2) / width) for d in (rr, oo, ro))
        within = (k_rr.sum() - n) / (n * (n - 1)) + (k_oo.sum() - m) / (m * (m - 1))
        total += within - 2 * k_ro.mean()
    return float(total / len(BANDWIDTHS))


def frechet_distance(real: np.ndarray, ours: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [N, D] (Heusel et al. 2017).

    With C = A'A for centred features A over sqrt(N - 1), and A = QR, the last trace is the sum of
    the singular values of R1 R2': no matrix is larger than the lesser of N and D.
    """
    means = real.mean(0) - ours.mean(0)
    a1, a2 = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (real, ours))
    r1, r2 = (np.asarray(np.linalg.qr(a, mode="r")) for a in (a1, a2))
    shared = np.linalg.svd(r1 @ r2.T, compute_uv=False).sum()
    return float(means @ means + (a1**2).sum() + (a2**2).sum() - 2 * shared)


def coverage(real: np.ndarray, ours: np.ndarray) -> float:
    """The share of real examples with a sample nearer than their 5th real neighbour.

    (Naeem et al. 2020, eq. 5)
    """
    within = np.sort(_distances(real, real), axis=1)
    radius = within[:, min(NEIGHBOURS, len(real) - 1)]  # the nearest is the example itself
    return float((_distances(real, ours).min(1) < radius).mean())


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances [N, M] of the rows of a and b."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    distances: np.ndarray = np.sqrt(squares.clip(0))
    return distances
