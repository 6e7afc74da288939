"""CTC loss with and without known case."""

import itertools
import math

import pytest
import torch

from linewise.model.network.charset import Charset
from linewise.model.train.ctc_loss import CtcLoss

CHARSET = Charset("aAbBß1")
LOSS = CtcLoss(CHARSET)


def _probability(logits: torch.Tensor, text: str, ignore_case: bool) -> float:
    """Sum over all alignments of a text, by counting them out."""
    probabilities = logits.softmax(-1)
    total = 0.0
    for path in itertools.product(range(CHARSET.classes), repeat=logits.shape[0]):
        letters = [("" if index == 0 else CHARSET.alphabet[index - 1]) for index in path]
        if ignore_case:
            letters = [letter.lower() for letter in letters]
        collapsed = "".join(letter for letter, _ in itertools.groupby(letters))
        if collapsed == (text.lower() if ignore_case else text):
            total += math.prod(float(probabilities[step, index]) for step, index in enumerate(path))
    return total


@pytest.mark.parametrize("ignore_case", [False, True])
@pytest.mark.parametrize("text", ["AB", "b", "Aß1", ""])
def test_the_loss_counts_every_alignment_of_the_text_in_either_case(text: str, ignore_case: bool) -> None:
    logits = torch.randn(1, 4, CHARSET.classes, generator=torch.Generator().manual_seed(1))
    (loss,) = LOSS(logits, [text], [ignore_case]).tolist()
    assert loss == pytest.approx(-math.log(_probability(logits[0], text, ignore_case)), rel=1e-4)


def test_case_gets_no_gradient_where_it_is_unknown() -> None:
    """Doubling one case at the expense of the other changes nothing where case is unknown."""
    logits = torch.zeros(2, 3, CHARSET.classes)
    shifted = logits.clone()
    lower, upper = CHARSET.ids_of("aA")
    shifted[..., lower], shifted[..., upper] = math.log(1.8), math.log(0.2)
    before, after = (LOSS(x, ["A", "A"], [True, False]) for x in (logits, shifted))
    assert float(before[0]) == pytest.approx(float(after[0]), rel=1e-5)
    assert float(after[1]) > float(before[1]) + 1
    leaf = logits.clone().requires_grad_()
    LOSS(leaf, ["A", "A"], [True, False])[0].backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None and bool(torch.isfinite(leaf.grad).all())
    assert torch.allclose(leaf.grad[0, :, lower], leaf.grad[0, :, upper], atol=1e-6)


def test_a_batch_with_and_without_case_gives_each_its_own_loss() -> None:
    logits = torch.randn(2, 5, CHARSET.classes, generator=torch.Generator().manual_seed(2))
    both = LOSS(logits, ["aB", "aB"], [True, False])
    alone = [LOSS(logits[i : i + 1], ["aB"], [i == 0])[0] for i in range(2)]
    assert torch.allclose(both, torch.stack(alone), atol=1e-5)
    assert float(LOSS(logits[:1, :1], ["ab"], [False])) == 0.0  # too short to hold the text
