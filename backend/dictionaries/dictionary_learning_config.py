"""config.json of dictionary_learning: the trainer settings, for every version of the library."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import model_validator

from backend.dictionaries.foreign_config import ForeignConfig, Text, refusal_error
from backend.dictionaries.module_hook_points import find_module_points
from feature_store.record_validation import Count, WholeNumber

TRAINED_CLASSES = {
    "standard": "AutoEncoder",
    "standardaprilupdate": "AutoEncoder",
    "panneal": "AutoEncoder",
    "gated": "GatedAutoEncoder",
    "gatedsae": "GatedAutoEncoder",
    "gatedanneal": "GatedAutoEncoder",
    "topk": "AutoEncoderTopK",
    "batchtopk": "BatchTopKSAE",
    "matryoshkabatchtopk": "MatryoshkaBatchTopKSAE",
    "jumprelu": "JumpReluAutoEncoder",
}
"""Dictionary class that each dictionary_learning trainer trains, by the trainer's class name in
lower case without the word Trainer."""

SUBMODULE = re.compile(
    r"(resid_pre|resid_mid|resid_post|resid_out|resid|attn_out|mlp_out)_layer_?(\d+)"
)
"""Pattern of the submodule names that dictionary_learning's training scripts write into config.json
and folder names."""
STREAM_NAMES = {"resid_out": "resid_post", "resid": "resid_post"}
FOLDERS_UP = 2
"""Number of parent folders in which a submodule name is looked for: `resid_post_layer_8/trainer_3`
names it one folder up."""


class TrainerConfig(ForeignConfig):
    """Trainer settings of a dictionary_learning checkpoint: its class, k, and the submodule that it
    was trained on."""

    dict_class: Text | None = None
    trainer_class: Text | None = None
    lm_name: Text | None = None
    layer: WholeNumber | None = None
    submodule_name: Text | None = None
    activation_dim: Count | None = None
    dict_size: Count | None = None
    k: Count | None = None

    @classmethod
    def read_file(cls, content: Mapping[str, object], where: str) -> Self:
        """Return the `trainer` section of a config.json, or the whole file where the settings are
        not nested."""
        trainer = content.get("trainer", content)
        if not isinstance(trainer, Mapping):
            return cls.read({"trainer": trainer}, where)
        return cls.read(trainer, where)

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_trainers(cls, content: Mapping[str, object]) -> Mapping[str, object]:
        """Refuse a dictionary_learning config.json whose `trainer` entry is not a JSON object."""
        if "trainer" in content:
            raise refusal_error("its trainer must be a JSON object")
        return content

    @property
    def trained_class(self) -> str | None:
        """Class of the trained dictionary: `dict_class`, or else the class that the
        trainer trains."""
        if self.dict_class or not self.trainer_class:
            return self.dict_class
        return TRAINED_CLASSES.get(
            self.trainer_class.replace("Trainer", "").lower(), self.trainer_class
        )

    def find_hook_point(self, folder: Path) -> tuple[str | None, str | None]:
        """Return the hook point of a dictionary_learning checkpoint and a note on how it was found;
        (None, None) where nothing names it.

        The hook point comes from `submodule_name`, else from the folder's name, else from `layer`
        alone, which stands for that layer's residual output, as in the library's own loaders.
        """
        if self.submodule_name:
            hook = _find_hook_of_name(self.submodule_name)
            if hook and self.layer is not None and f".{self.layer}." not in hook:
                return None, None  # the two contradict each other
            return hook, None
        for place in [folder, *folder.parents][: FOLDERS_UP + 1]:
            hook = _find_hook_of_name(place.name)
            if hook and (self.layer is None or f".{self.layer}." in hook):
                return hook, f"Its hook point {hook} is from the folder's name {place.name}."
        if self.layer is None:
            return None, None
        hook = f"blocks.{self.layer}.hook_resid_post"
        return hook, (
            f"Its config.json says layer {self.layer} and no submodule: it is taken to read that "
            f"layer's output, {hook}, as dictionary_learning's own loaders do. Write @HOOK if it "
            "was trained elsewhere."
        )


def _find_hook_of_name(name: str) -> str | None:
    """Return the hook point of a submodule or module name; None for other names."""
    if match := SUBMODULE.fullmatch(name):
        return f"blocks.{int(match[2])}.hook_{STREAM_NAMES.get(match[1], match[1])}"
    points = find_module_points(name)
    return points.writes if points else None
