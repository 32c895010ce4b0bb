"""The three losses of SEC, each beside its formula (Kolesnikov and Lampert, "Seed, expand and constrain", ECCV 2016).

Scores f are probabilities, (n, k + 1, h, w), of which class 0 is the background; `present` says which of the k others
an image shows, (n, k) bool. Every loss is a mean over the images.
"""

import torch

PAPER_POSITIONS = 41 * 41
"""The paper's network gives so many scores of an image; its decays mean these."""

LEAST_SCORE = 1e-5  # below it a logarithm would outweigh all others


def compute_seeding_loss(scores: torch.Tensor, cues: torch.Tensor) -> torch.Tensor:
    """Section 3.2: -1 / (sum over c of |S_c|) * sum over c of sum over u in S_c of log f_(u,c).

    Args:
        scores: (n, k + 1, h, w).
        cues: (n, k + 1, h, w) bool, the positions S_c that are known to be of class c; an image without any adds 0.
    """
    told = (cues * scores.clamp_min(LEAST_SCORE).log()).sum((1, 2, 3))
    return -(told / cues.sum((1, 2, 3)).clamp_min(1)).mean()


def pool_by_rank(scores: torch.Tensor, decay: float, positions: int = PAPER_POSITIONS) -> torch.Tensor:
    """Global weighted rank pooling, equation 5: G = sum over j of d^(j - 1) * f_(j) / sum over j of d^(j - 1).

    f_(j) is the j-th highest score. A decay of 0 is the maximum, 1 the mean, and what is between them says how large an
    object is expected to be: it holds for `positions` scores of an image and is converted to as many as there are.

    Args:
        scores: (..., h, w).
        decay: d, 0 to 1.
        positions: of an image that the decay is meant for.

    Returns:
        (...).
    """
    ranked = scores.flatten(-2).sort(-1, descending=True).values
    count = ranked.shape[-1]
    weights = (decay ** (positions / count)) ** torch.arange(count, dtype=ranked.dtype, device=ranked.device)
    pooled: torch.Tensor = (ranked * weights).sum(-1) / weights.sum()
    return pooled


def compute_expansion_loss(
    scores: torch.Tensor, present: torch.Tensor, present_decay: float, absent_decay: float, background_decay: float
) -> torch.Tensor:
    r"""Section 3.3, equation 7: what an image shows fills some of it, what it does not show none, background the rest.

    -1/|T| * sum over c in T of log G_c(d+) - 1/|C' \ T| * sum over c not in T of log(1 - G_c(d-)) - log G_bg(d_bg)

    Args:
        scores: (n, k + 1, h, w).
        present: T, (n, k) bool; an image without any object has no first term.
        present_decay: d+, .996 in the paper.
        absent_decay: d-, 0 in the paper.
        background_decay: d_bg, .999 in the paper.
    """
    shown = pool_by_rank(scores[:, 1:], present_decay)
    hidden = pool_by_rank(scores[:, 1:], absent_decay)
    background = pool_by_rank(scores[:, 0], background_decay)
    of_present = _mean_where(present, shown.clamp_min(LEAST_SCORE).log())
    of_absent = _mean_where(~present, (1 - hidden).clamp_min(LEAST_SCORE).log())
    return -(of_present + of_absent + background.clamp_min(LEAST_SCORE).log()).mean()


def _mean_where(chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Means of the chosen of (n, k) values, (n,); 0 where none is chosen."""
    return (values * chosen).sum(1) / chosen.sum(1).clamp_min(1)


def compute_constrain_loss(scores: torch.Tensor, constrained: torch.Tensor) -> torch.Tensor:
    """Section 3.4, equation 8: the mean over positions of KL(Q || f) = sum over c of Q_c * log(Q_c / f_c).

    Args:
        scores: f, (n, k + 1, h, w).
        constrained: Q, the same scores after the dense CRF, which learns nothing itself.
    """
    target = constrained.clamp_min(LEAST_SCORE)
    return (target * (target.log() - scores.clamp_min(LEAST_SCORE).log())).sum(1).mean()
