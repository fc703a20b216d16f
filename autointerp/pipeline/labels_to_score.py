"""Choice of the labels that a score job scores, and of the label that each feature borrows from
another one as a baseline."""

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
    """One label of a feature that a job has to score, with the label borrowed as its baseline."""

    explanation: int
    explainer: str
    text: str
    borrowed: str | None
    """Label of another feature by the same explainer, used as a baseline; None where it explained
    no other feature."""
    lender: int | None
    """Index of the feature whose label is borrowed."""


class LabelsToScore:
    """The newest label of each explainer for each feature of a dictionary, which a job has to
    score."""

    def __init__(
        self,
        file: HarvestFile,
        dictionary: str,
        explanations: ScorableExplanations,
        *,
        explainer: str | None = None,
        before: datetime | None = None,
        seed: int = 0,
    ) -> None:
        """Read the labels to score. `explainer` restricts them to one explainer; InputError where
        it wrote none. Labels newer than `before` are left out, so that a resumed job finds the same
        ones."""
        self._of: dict[str, dict[int, tuple[int, str]]] = {}
        """Explainer → feature → number and text of the explanation."""
        for one in explanations.of_dictionary(dictionary):  # sorted by feature, the oldest first
            if before is None or one.created <= before:
                # a later explanation of the same feature replaces the earlier one
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
        """Names of the explainers whose labels are scored, sorted."""
        return sorted(self._of)

    @property
    def texts(self) -> list[str]:
        """Texts of all labels that the score job has to score, of every explainer and feature."""
        return [text for rows in self._of.values() for _, text in rows.values()]

    def of_feature(self, feature: int) -> list[LabelToScore]:
        """Return the labels to score of one feature: one for each explainer that wrote any."""
        return [self._label(name, feature) for name in self.explainers if feature in self._of[name]]

    def _label(self, explainer: str, feature: int) -> LabelToScore:
        number, text = self._of[explainer][feature]
        lender = self._lenders[explainer].get(feature)
        borrowed = self._of[explainer][lender][1] if lender is not None else None
        return LabelToScore(number, explainer, text, borrowed, lender)


def read_feature_densities(file: HarvestFile, dictionary: str) -> Mapping[int, float]:
    """Return feature → share of tokens on which it is active, for choosing whose label each feature
    borrows."""
    table = file.rows("SELECT feature, density FROM feature WHERE dictionary = ?", [dictionary])
    found = np.zeros(file.dictionary(dictionary).d_sae)
    found[table.column("feature").to_numpy()] = table.column("density").to_numpy()
    return dict(enumerate(found.tolist()))


def no_explanation_error(
    dictionary: str, there: Sequence[str], explainer: str | None
) -> InputError:
    """Return the error for a dictionary that has no explanation to score, or none by this
    explainer."""
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
