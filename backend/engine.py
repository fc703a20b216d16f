"""The live side: one model with a harvest's dictionaries, for texts that a person types.

What the harvest stores is about its corpus; everything here is computed now, by the same encoders,
behind the model's one lock.
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
from backend.engine_protocol import (
    DirectFeatureAttribution,
    FeatureWeights,
    LogitLensRow,
    TextActivations,
    TokenizedText,
)
from backend.features import direct_feature_attribution, direction_cosines, weights_and_neurons
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
    """The model and dictionaries of one harvest, in this process."""

    def __init__(
        self,
        lm: LanguageModel,
        found: Mapping[str, Dictionary],
        *,
        bos: int | None,
        elsewhere: Collection[str] = (),
    ) -> None:
        """`elsewhere`: names of dictionaries that are refused, as they read a shuffled model."""
        self.lm = lm
        self.dictionaries = (
            found if isinstance(found, DictionaryTable) else DictionaryTable(found, elsewhere)
        )
        self.bos = bos
        self.lease: object = None
        """What keeps the model in memory while this engine is used, where one of several is."""

    @classmethod
    def load(
        cls,
        file: HarvestFile,
        places: Mapping[str, str],
        placement: Placement,
        lm: LanguageModel | None = None,
    ) -> "LocalEngine":
        """The model that the harvest was made with, and its dictionaries, to be loaded when asked
        for, from where this machine keeps them.

        `lm` is that very model where it is in memory already. Raises InputError when weights are
        not known here, or the model's are not the same any more.
        """
        record = file.record
        served = list_model_dictionaries(file)
        infos = {name: file.dictionary(name) for name in served}
        where = {
            name: find_weight_location(info.weights_hash, f"dictionary {name}", places)
            for name, info in infos.items()
        }
        if lm is None:
            lm = LanguageModel.load(
                find_weight_location(record.model_hash, f"model {record.model}", places), placement
            )
            limit_cpu_threads(placement, lm.d_model)
        check_weights_unchanged(f"model {record.model}", lm.model_hash, record.model_hash)
        elsewhere = file.dictionaries.keys() - served
        cache = shared_dictionary_cache()
        table = LazyDictionaryTable(infos, where, lm, cache, elsewhere)
        first = int(file.sequences.flat[0])
        return cls(lm, table, bos=first if first == lm.bos else None)

    @property
    def model_bytes(self) -> int:
        """The bytes of all storages behind the model's weights, each counted once: of the plain
        model and of TransformerLens' bridge, which keeps copies of what it splits."""
        with self.lm.turn() as bridge:
            parts = [*bridge.parameters(), *bridge.buffers()]
        parts += [*self.lm.bare.parameters(), *self.lm.bare.buffers()]
        storages = [part.untyped_storage() for part in parts]
        return sum({one.data_ptr(): one.nbytes() for one in storages}.values())

    def read(self, text: str) -> TokenizedText:
        """Tokenise; InputError for an empty text and for one beyond the model's context."""
        if not text:
            raise InputError("There is no text to read: type some.")
        ids = self.lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        tokens = [] if self.bos is None else [self.bos]
        return self.text(self._within(tokens + ids["input_ids"]))

    def fit(self, text: str) -> str:
        """The longest beginning of a text that the model can read at once."""
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
            # The cut itself may change how the end is split, so it is tried again.
            text = text[: min(spans[room - 1][1], len(text) - 1)]

    @property
    def chats(self) -> bool:
        """Whether the model's tokenizer has a chat template."""
        return bool(getattr(self.lm.tokenizer, "chat_template", None))

    def read_chat(self, turns: Sequence[Mapping[str, str]]) -> TokenizedText:
        """Turns ({role, content}) through the model's chat template, whose own tokens don't count;
        InputError as in `read`."""
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
                f"{self.lm.n_ctx:,} at once. Cut it."
            )
        return tokens

    def text(self, token_ids: list[int]) -> TokenizedText:
        """Tokens that are known already, a stored sequence's for one."""
        left_out = uncounted_token_ids(self.lm.bos, self.lm.special_ids, {})
        return TokenizedText(token_ids, [token not in left_out for token in token_ids])

    @torch.inference_mode()
    def firing(self, text: TokenizedText, names: list[str]) -> dict[str, TextActivations]:
        """Activations of dictionaries on a text: one forward pass for all of them."""
        if not names:
            return {}
        processing = pick_by_name("dictionary", names[0], self.dictionaries).processing
        hooks = list(dict.fromkeys(self._hook_name(name) for name in names))
        acts = self.lm.activations(torch.tensor([text.token_ids]), hooks, processing)
        found = {}
        for name in names:  # one after the other: together they may be larger than their budget
            one = pick_by_name("dictionary", name, self.dictionaries)
            x = acts[one.hook_name]
            triples = one.encode_sparse(x if one.needs_sequence else x[0])
            found[name] = TextActivations(*(column.cpu().numpy() for column in triples))
        return found

    def weights(self, feature: FeatureId) -> FeatureWeights:
        """Which dimensions, neurons and heads a feature reads and writes."""
        return weights_and_neurons.read_feature_weights(
            self.lm, self._dictionary(feature), feature.index
        )

    def sources(
        self, feature: FeatureId, tokens: np.ndarray, peak: int
    ) -> DirectFeatureAttribution:
        """A hook_z feature's pre-activation at a position of a sequence, by head and source token.

        InputError where that is not defined.
        """
        ids = torch.from_numpy(tokens.astype(np.int64))
        return direct_feature_attribution.attribute_to_source_tokens(
            self.lm, self._dictionary(feature), feature.index, ids, peak
        )

    def removal(self, feature: FeatureId, context: Context, tokens: np.ndarray) -> RemovalEffect:
        """What removing a feature changes in a stored context; `tokens` are its whole sequence."""
        one = self._dictionary(feature)
        ids = torch.from_numpy(tokens.astype(np.int64))
        left_out = uncounted_token_ids(self.lm.bos, self.lm.special_ids, one.metadata)
        return measure_feature_removal(
            self.lm,
            one,
            feature.index,
            ids,
            ~torch.isin(ids, torch.tensor(sorted(left_out))),
            sequence=context.sequence,
            window=(context.start, context.start + context.length),
            peak=context.peak,
        )

    def lens(self, feature: FeatureId) -> np.ndarray | None:
        """Its direct effect on the logit of every token of the vocabulary."""
        return direction_cosines.feature_logit_lens(
            self.lm, self._dictionary(feature), feature.index
        )

    def cosines(
        self, features: Sequence[FeatureId], side: direction_cosines.EncoderOrDecoder
    ) -> list[list[float | None]]:
        """Of each pair; None where the two live in different spaces."""
        return direction_cosines.compute_pairwise_cosines(
            self.lm, self.dictionaries, features, side
        )

    def nearest(
        self, feature: FeatureId, dictionary: str, n: int
    ) -> list[tuple[int, float]] | None:
        """The features of a dictionary that write most like one of any, with their cosines."""
        other = pick_by_name("dictionary", dictionary, self.dictionaries)
        return direction_cosines.find_nearest_features(
            self.lm, self._dictionary(feature), feature.index, other, n
        )

    def lens_rows(self, text: TokenizedText) -> list[LogitLensRow]:
        """The logit lens after every block; the last row is the model's own prediction."""
        return compute_logit_lens_rows(self.lm, torch.tensor(text.token_ids))

    @torch.inference_mode()
    def predict(self, text: TokenizedText, at: int, n: int) -> list[tuple[int, float]]:
        """The most probable tokens after position `at`, with their probabilities."""
        logits = self.lm.next_logits(torch.tensor([text.token_ids[: at + 1]]))[0].float()
        nameable = logits.softmax(-1)[: self.lm.n_nameable]
        best = nameable.topk(min(n, len(nameable)))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def target(self, text: TokenizedText, at: int, answer: str) -> int:
        """The token that `answer` is behind position `at`; InputError when it is several."""
        target = find_target_token(self.lm, text.token_ids[: at + 1], answer)
        check_token_ids([target], self.lm.d_vocab)
        return target

    def toward(
        self, text: TokenizedText, names: list[str], target: int, at: int
    ) -> dict[str, TextActivations]:
        """Gradient × activation toward a next token at a position, of features active at counted
        positions: `value` is in logits, less their mean over the vocabulary."""
        chosen = {name: pick_by_name("dictionary", name, self.dictionaries) for name in names}
        ids, counted = torch.tensor(text.token_ids), torch.tensor(text.counted)
        return attribute_logit_to_features(self.lm, chosen, ids, counted, target, at)

    def _hook_name(self, name: str) -> str:
        if name not in self.dictionaries:
            pick_by_name("dictionary", name, self.dictionaries)  # raises the error that says why
        return self.dictionaries.hook_name(name)

    def _dictionary(self, feature: FeatureId) -> Dictionary:
        return pick_by_name("dictionary", feature.dictionary, self.dictionaries)


def find_weight_location(weights_hash: str, what: str, places: Mapping[str, str]) -> str:
    """Where weights lie, or an InputError."""
    if weights_hash not in places:
        raise InputError(
            f"This machine does not know where the {what} lies. Harvest with it once here, or "
            "harvest again."
        )
    return places[weights_hash]
