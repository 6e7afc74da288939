"""Decoding of a batch: the best string of each image, alternatives, and whether it needs rescoring."""

from collections.abc import Sequence
from dataclasses import dataclass

from linewise.model.decoding import beam_search, ctc
from linewise.model.decoding.beam_search import Candidate
from linewise.model.decoding.options import Decoding
from linewise.model.decoding.rescoring import RESCORE_THRESHOLD
from linewise.model.network.charset import Charset


@dataclass(frozen=True)
class Hypotheses:
    """Decoded strings of one image.

    `others` are alternatives, the most probable first. `log_probs` `(T, C)` are kept where `best` should be rescored.
    """

    best: ctc.Decoded
    others: tuple[Candidate, ...] = ()
    log_probs: ctc.Array | None = None


def decode(
    logits: ctc.Array, temperature: float, charset: Charset, decodings: Sequence[Decoding | None]
) -> list[Hypotheses]:
    """Decode logits `(B, T, C)`, one row for each of `decodings`: greedily, or by beam search where one is given.

    A result below `RESCORE_THRESHOLD` should be rescored, unless it is constrained: another view of the image does
    not make a text more probable that the image does not hold.
    """
    results = []
    batch = ctc.log_posteriors(logits, temperature)
    for log_probs, greedy, decoding in zip(batch, ctc.greedy_of(batch), decodings, strict=True):
        best = greedy
        others: tuple[Candidate, ...] = ()
        if decoding is not None:
            width = max(beam_search.BEAM_WIDTH, decoding.alternatives + 1)
            first, *rest = beam_search.search(log_probs, charset, decoding, width=width)
            others = tuple(rest)
            if first.ids != best.ids:
                best = ctc.Decoded(first.ids, *ctc.align(log_probs, first.ids), first.confidence)
        needs_rescoring = best.confidence < RESCORE_THRESHOLD and not (decoding and decoding.constrained)
        # A copy, because a row would keep its whole batch in memory.
        results.append(Hypotheses(best, others, log_probs.copy() if needs_rescoring else None))
    return results
