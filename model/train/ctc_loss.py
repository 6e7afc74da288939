"""CTC loss per sample, for texts with and without known case."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from linewise.model.network.charset import Charset


class CtcLoss:
    """CTC loss of a batch of texts under logits `(B, T, classes)`.

    Where the case of a text is unknown, the probabilities of both cases of a letter are summed in every column
    and the text is compared in lower case: case is neither rewarded nor punished.
    """

    def __init__(self, charset: Charset) -> None:
        self.charset = charset
        pairs = [(c, c.lower()) for c in charset.alphabet if len(c.lower()) == 1 and c.lower() != c]
        pairs = [(upper, lower) for upper, lower in pairs if lower in charset]
        self._upper = torch.tensor(charset.ids_of([upper for upper, _ in pairs]))
        self._lower = torch.tensor(charset.ids_of([lower for _, lower in pairs]))
        self._to_lower = {ord(upper): lower for upper, lower in pairs}

    def __call__(self, logits: torch.Tensor, texts: Sequence[str], ignore_case: Sequence[bool]) -> torch.Tensor:
        """Loss of each whole text in nats, float32 `(B,)`; 0 where no alignment exists."""
        log_probs = logits.float().log_softmax(-1)
        unknown = torch.tensor(ignore_case, dtype=torch.bool, device=logits.device)
        if bool(unknown.any()):
            log_probs = torch.where(unknown[:, None, None], self._merge_case(log_probs), log_probs)
        targets = [
            self.charset.encode(text.translate(self._to_lower) if caseless else text)
            for text, caseless in zip(texts, ignore_case, strict=True)
        ]
        lengths = torch.tensor([len(target) for target in targets])
        steps = torch.full((len(texts),), logits.shape[1], dtype=torch.long)
        flat = torch.tensor([label for target in targets for label in target], dtype=torch.long, device=logits.device)
        return F.ctc_loss(log_probs.transpose(0, 1), flat, steps, lengths, reduction="none", zero_infinity=True)

    def _merge_case(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Move the probability of capitals to their small letters."""
        upper, lower = self._upper.to(log_probs.device), self._lower.to(log_probs.device)
        both = torch.logaddexp(log_probs[..., upper], log_probs[..., lower])
        merged = log_probs.index_copy(-1, lower, both)
        return merged.index_fill(-1, upper, -1e4)  # finite, so that gradients stay defined
