"""Which sentences a job scores, and which one each feature borrows for comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from autointerp import baseline_labels
from feature_store.errors import InputError, suggest_near_miss
from feature_store.explanations import ScorableExplanations
from feature_store.harvest_reader import HarvestFile


@dataclass(frozen=True)
class LabelToScore:
    """One sentence that is to be scored."""

    explanation: int
    explainer: str
    text: str
    borrowed: str | None
    """What an explainer like it wrote about another feature; None where it wrote about no other."""
    lender: int | None


class LabelsToScore:
    """The newest sentence of each explainer about each feature of a dictionary."""

    def __init__(
        self,
        file: HarvestFile,
        dictionary: str,
        said: ScorableExplanations,
        *,
        explainer: str | None = None,
        before: datetime | None = None,
        seed: int = 0,
    ) -> None:
        """`explainer`: this one alone; InputError where it wrote nothing. `before`: sentences that
        came later are left out, so that a job begun again finds the same ones."""
        self._of: dict[str, dict[int, tuple[int, str]]] = {}
        """Explainer → feature → the sentence's number and text."""
        for one in said.every(dictionary):  # of a feature the oldest first
            if before is None or one.created <= before:
                row = (one.explanation, one.text)
                self._of.setdefault(one.explainer, {})[one.feature] = row
        if explainer is not None:
            if explainer not in self._of:
                raise no_explanation_error(dictionary, list(self._of), explainer)
            self._of = {explainer: self._of[explainer]}
        if not self._of:
            raise no_explanation_error(dictionary, [], None)
        density = read_feature_densities(file, dictionary)
        self._lenders = {
            name: baseline_labels.choose_lenders({i: density[i] for i in rows}, seed)
            for name, rows in self._of.items()
        }

    @property
    def explainers(self) -> list[str]:
        """Who wrote any, by name."""
        return sorted(self._of)

    @property
    def texts(self) -> list[str]:
        """All of them."""
        return [text for rows in self._of.values() for _, text in rows.values()]

    def of(self, feature: int) -> list[LabelToScore]:
        """What is scored of a feature: a sentence for each explainer that wrote one."""
        return [self._label(name, feature) for name in self.explainers if feature in self._of[name]]

    def _label(self, explainer: str, feature: int) -> LabelToScore:
        number, text = self._of[explainer][feature]
        lender = self._lenders[explainer].get(feature)
        borrowed = self._of[explainer][lender][1] if lender is not None else None
        return LabelToScore(number, explainer, text, borrowed, lender)


def read_feature_densities(file: HarvestFile, dictionary: str) -> Mapping[int, float]:
    """Share of tokens on which each feature is active."""
    table = file.rows("SELECT feature, density FROM feature WHERE dictionary = ?", [dictionary])
    found = np.zeros(file.dictionary(dictionary).d_sae)
    found[table.column("feature").to_numpy()] = table.column("density").to_numpy()
    return dict(enumerate(found.tolist()))


def no_explanation_error(
    dictionary: str, there: Sequence[str], explainer: str | None
) -> InputError:
    """The sentence for a dictionary in which there is nothing to score."""
    if explainer is None or not there:
        return InputError(
            f"{dictionary} has no explanation to score. Make some with saefari explain, import "
            "them, or give features labels."
        )
    names = ", ".join(sorted(name or "(no name)" for name in there))
    return InputError(
        f"{dictionary} has no explanation by "
        f"{explainer!r}.{suggest_near_miss(explainer, list(there))} "
        f"There are explanations by: {names}."
    )
