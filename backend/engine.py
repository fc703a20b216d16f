"""Local engine: a model with a harvest's dictionaries in this process, for texts that a user types.

What a harvest stores describes its corpus; an engine computes the same quantities live, with the
same encoders, under the lock of the model.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from backend.attribution.logit_attribution import attribute_logit_to_features, find_target_token
from backend.corpus.chat_template import TEMPLATE_ROLE, chat_renderer, label_speakers
from backend.dictionaries.base import Dictionary
from backend.dictionaries.dictionary_cache import shared_dictionary_cache
from backend.dictionaries.dictionary_table import (
    DictionaryTable,
    LazyDictionaryTable,
    check_weights_unchanged,
)
from backend.dictionaries.site_activations import join_sites
from backend.engine_protocol import (
    DirectFeatureAttribution,
    FeatureWeights,
    LogitLensRow,
    TextActivations,
    TokenizedText,
)
from backend.features import (
    direct_feature_attribution,
    direction_cosines,
    logit_lens,
    weights_and_neurons,
)
from backend.features.feature_removal import measure_feature_removal
from backend.model.counted_positions import uncounted_token_ids
from backend.model.device import Placement, limit_cpu_threads
from backend.model.language_model import LanguageModel
from backend.model.logit_lens_by_layer import compute_logit_lens_rows
from backend.model.vocabulary import check_token_ids
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.records import Context, FeatureId
from feature_store.removal_effects import RemovalEffect


class LocalEngine:
    """Engine that holds one harvest's model and dictionaries in this process and answers live
    requests."""

    def __init__(
        self,
        lm: LanguageModel,
        found: Mapping[str, Dictionary],
        *,
        bos: int | None,
        refused_names: Collection[str] = (),
    ) -> None:
        """Make an engine from a loaded model and dictionaries; `elsewhere` are names to refuse,
        since those dictionaries read a shuffled model."""
        self.lm = lm
        self.dictionaries = (
            found if isinstance(found, DictionaryTable) else DictionaryTable(found, refused_names)
        )
        self.bos = bos
        self.lease: object = None
        """Handle that keeps the engine's model in memory while the engine is in use, where several
        models share a budget."""

    @classmethod
    def load(
        cls,
        file: HarvestFile,
        places: Mapping[str, str],
        placement: Placement,
        lm: LanguageModel | None = None,
    ) -> "LocalEngine":
        """Load the engine of a harvest: its model now, its dictionaries when they are first used.

        `places` maps hashes of weights to their paths on this machine; `lm` is the harvest's model,
        if it is in memory already. Raise InputError when weights are not on this machine, or the
        model's weights have changed since the harvest.
        """
        record = file.record
        served_names = list_model_dictionaries(file)
        infos = {name: file.dictionary(name) for name in served_names}
        locations = {
            name: find_weight_location(info.weights_hash, f"dictionary {name}", places)
            for name, info in infos.items()
        }
        if lm is None:
            lm = LanguageModel.load(
                find_weight_location(record.model_hash, f"model {record.model}", places), placement
            )
            limit_cpu_threads(placement, lm.d_model)
        check_weights_unchanged(f"model {record.model}", lm.model_hash, record.model_hash)
        elsewhere = file.dictionaries.keys() - served_names
        cache = shared_dictionary_cache()
        table = LazyDictionaryTable(infos, locations, lm, cache, elsewhere)
        first = int(file.sequences.flat[0])
        return cls(lm, table, bos=first if first == lm.bos else None)

    @property
    def model_bytes(self) -> int:
        """Memory in bytes of the local engine's model, each storage counted once: the plain model,
        and TransformerLens' bridge, which keeps copies of the weights that it splits."""
        with self.lm.hold_bridge() as bridge:
            parts = [*bridge.parameters(), *bridge.buffers()]
        parts += [*self.lm.bare.parameters(), *self.lm.bare.buffers()]
        storages = [part.untyped_storage() for part in parts]
        return sum({one.data_ptr(): one.nbytes() for one in storages}.values())

    def read(self, text: str) -> TokenizedText:
        """Tokenise a text for the local engine's model; raise InputError for an empty text and for
        one longer than the context."""
        if not text:
            raise InputError("There is no text to read: type some.")
        ids = self.lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        tokens = [] if self.bos is None else [self.bos]
        return self.text(self._within(tokens + ids["input_ids"]))

    def cut_to_context(self, text: str) -> str:
        """Return the longest beginning of a text whose tokens fit into the context of the local
        engine's model."""
        room = self.lm.n_ctx - (self.bos is not None)
        while True:
            ids = self.lm.tokenizer(
                text,
                add_special_tokens=False,
                split_special_tokens=True,
                return_offsets_mapping=True,
            )
            spans = ids["offset_mapping"]
            if len(spans) <= room:
                return text
            # Cutting may change how the end is tokenised, so the text is tokenised again.
            text = text[: min(spans[room - 1][1], len(text) - 1)]

    @property
    def chats(self) -> bool:
        """Whether the tokenizer of the local engine's model has a chat template."""
        return bool(getattr(self.lm.tokenizer, "chat_template", None))

    def read_chat(self, turns: Sequence[Mapping[str, str]]) -> TokenizedText:
        """Tokenise chat turns ({role, content}) with the local engine's chat template, whose own
        tokens are not counted.

        Raise InputError as `LocalEngine.read` does.
        """
        if not any(turn["content"].strip() for turn in turns):
            raise InputError("There is no text to read: type some.")
        messages = [dict(turn) for turn in turns]
        rendered = chat_renderer(self.lm.tokenizer)(messages)
        ids = self.lm.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        roles = label_speakers(self.lm.tokenizer, messages, rendered)
        if self.bos is not None and ids[:1] != [self.bos]:
            ids, roles = [self.bos, *ids], [TEMPLATE_ROLE, *roles]
        text = self.text(self._within(ids))
        words = zip(text.counted, roles, strict=True)
        return TokenizedText(ids, [counted and role != TEMPLATE_ROLE for counted, role in words])

    def _within(self, tokens: list[int]) -> list[int]:
        check_token_ids(tokens, self.lm.d_vocab)
        if len(tokens) > self.lm.n_ctx:
            raise InputError(
                f"The text has {len(tokens):,} tokens; {self.lm.name} reads at most "
                f"{self.lm.n_ctx:,} at once. Shorten it."
            )
        return tokens

    def text(self, token_ids: list[int]) -> TokenizedText:
        """Wrap known token ids, such as those of a stored sequence, with the flags of which of them
        the local engine counts."""
        left_out = uncounted_token_ids(self.lm.bos, self.lm.special_ids, {})
        return TokenizedText(token_ids, [token not in left_out for token in token_ids])

    @torch.inference_mode()
    def compute_activations(
        self, text: TokenizedText, names: list[str]
    ) -> dict[str, TextActivations]:
        """Compute the activations of several dictionaries of the local engine on a text, in one
        forward pass."""
        if not names:
            return {}
        processing = pick_by_name("dictionary", names[0], self.dictionaries).processing
        hooks = list(dict.fromkeys(hook for name in names for hook in self._read_hooks(name)))
        acts = self.lm.activations(torch.tensor([text.token_ids]), hooks, processing)
        found = {}
        for name in names:  # one at a time: together they may exceed the dictionary budget
            dictionary = pick_by_name("dictionary", name, self.dictionaries)
            x = join_sites([acts[hook] for hook in dictionary.read_hooks])
            triples = dictionary.encode_sparse(x if dictionary.needs_sequence else x[0])
            found[name] = TextActivations(*(column.cpu().numpy() for column in triples))
        return found

    def weights(self, feature: FeatureId) -> FeatureWeights:
        """Return which dimensions, neurons and heads a feature of the local engine reads and writes
        most."""
        return weights_and_neurons.read_feature_weights(
            self.lm, self._dictionary(feature), feature.index
        )

    def attribute_to_sources(
        self, feature: FeatureId, tokens: np.ndarray, peak: int
    ) -> DirectFeatureAttribution:
        """Attribute, on the local engine, a hook_z feature's pre-activation at position `peak` of a
        sequence to heads and source tokens.

        Raise InputError where direct feature attribution is not defined.
        """
        ids = torch.from_numpy(tokens.astype(np.int64))
        return direct_feature_attribution.attribute_to_source_tokens(
            self.lm, self._dictionary(feature), feature.index, ids, peak
        )

    def measure_removal(
        self, feature: FeatureId, context: Context, tokens: np.ndarray
    ) -> RemovalEffect:
        """Measure, on the local engine, how removing a feature changes the predictions in a stored
        context; `tokens` are its whole sequence."""
        dictionary = self._dictionary(feature)
        ids = torch.from_numpy(tokens.astype(np.int64))
        left_out = uncounted_token_ids(self.lm.bos, self.lm.special_ids, dictionary.metadata)
        return measure_feature_removal(
            self.lm,
            dictionary,
            feature.index,
            ids,
            ~torch.isin(ids, torch.tensor(sorted(left_out))),
            sequence=context.sequence,
            window=(context.start, context.start + context.length),
            peak=context.peak,
        )

    def logit_lens(self, feature: FeatureId) -> np.ndarray | None:
        """Return a feature's direct effect on the logit of every token of the vocabulary, on the
        local engine's model."""
        return logit_lens.feature_logit_lens(self.lm, self._dictionary(feature), feature.index)

    def pairwise_cosines(
        self, features: Sequence[FeatureId], side: direction_cosines.EncoderOrDecoder
    ) -> list[list[float | None]]:
        """Return the pairwise cosines of directions of the local engine's features; None for a pair
        in different spaces."""
        return direction_cosines.compute_pairwise_cosines(
            self.lm, self.dictionaries, features, side
        )

    def find_nearest(
        self, feature: FeatureId, dictionary: str, n: int
    ) -> list[tuple[int, float]] | None:
        """Find the features of a dictionary of the local engine whose decoder directions have the
        largest cosine with a feature's."""
        other = pick_by_name("dictionary", dictionary, self.dictionaries)
        return direction_cosines.find_nearest_features(
            self.lm, self._dictionary(feature), feature.index, other, n
        )

    def lens_rows(self, text: TokenizedText) -> list[LogitLensRow]:
        """Return the logit lens of a text after each block of the local engine's model; the last
        row is the model's own prediction."""
        return compute_logit_lens_rows(self.lm, torch.tensor(text.token_ids))

    @torch.inference_mode()
    def predict_next_tokens(self, text: TokenizedText, at: int, n: int) -> list[tuple[int, float]]:
        """Return the `n` tokens that the local engine's model gives the highest probability after
        position `at`, with their probabilities."""
        logits = self.lm.next_logits(torch.tensor([text.token_ids[: at + 1]]))[0].float()
        nameable = logits.softmax(-1)[: self.lm.n_nameable]
        best = nameable.topk(min(n, len(nameable)))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def find_target_token(self, text: TokenizedText, at: int, answer: str) -> int:
        """Return the token id of `answer` after position `at` for the local engine's tokenizer;
        raise InputError when it is several tokens."""
        target = find_target_token(self.lm, text.token_ids[: at + 1], answer)
        check_token_ids([target], self.lm.d_vocab)
        return target

    def attribute_logit(
        self, text: TokenizedText, names: list[str], target: int, at: int
    ) -> dict[str, TextActivations]:
        """Attribute, on the local engine, a next token's logit at position `at` to the features
        active in a text, by gradient × activation.

        Values are in logits, less the mean over the vocabulary, at counted positions.
        """
        chosen = {name: pick_by_name("dictionary", name, self.dictionaries) for name in names}
        ids, counted = torch.tensor(text.token_ids), torch.tensor(text.counted)
        return attribute_logit_to_features(self.lm, chosen, ids, counted, target, at)

    def _read_hooks(self, name: str) -> tuple[str, ...]:
        if name not in self.dictionaries:
            pick_by_name("dictionary", name, self.dictionaries)  # raises the error that says why
        return self.dictionaries.read_hooks(name)

    def _dictionary(self, feature: FeatureId) -> Dictionary:
        return pick_by_name("dictionary", feature.dictionary, self.dictionaries)


def find_weight_location(weights_hash: str, what: str, places: Mapping[str, str]) -> str:
    """Return the path on this machine of weights that an engine loads; raise InputError when it is
    not known."""
    if weights_hash not in places:
        raise InputError(
            f"This machine does not know where the {what} lies. Run a harvest with it here once, "
            "and its path will be known."
        )
    return places[weights_hash]
