"""Glossary: one-line definitions of the terms that the pages, the commands and the docs use.

`docs/glossary.md` shows the same table to readers of the docs, and the help text of a control
quotes a definition from here, so that a term means the same thing everywhere.
"""

TERMS = {
    "ablate": "Replace the activation of a feature, or of another part of the model, by a baseline "
    "value, to see what the model does without it.",
    "activation": "The value of a feature at one token; 0 where the feature is inactive.",
    "active token": "A token at which a feature has an activation other than 0.",
    "attribution": "An estimate, from gradients, of how much each node contributes to a target "
    "such as a difference of two logits.",
    "attribution graph": "A graph of the nodes of one prompt whose edges are direct linear "
    "effects, with attention patterns, norms and feature gates frozen.",
    "autointerp": "Automated interpretability: a language model writes explanations of features "
    "and the explanations are scored.",
    "balanced accuracy": "The mean of the share of active windows judged rightly and the share of "
    "silent windows judged rightly; 0.5 is chance.",
    "baseline": "The value that an ablated node takes: zero, its mean over the position, its value "
    "in another prompt, or its value in the corrupted prompt.",
    "baseline label": "An explanation that cannot describe the feature (borrowed from another "
    "feature, constant, or its most frequent token), scored for comparison.",
    "BOS": "The token that marks the beginning of a text. It is left out of all statistics.",
    "circuit": "A small set of nodes, with edges between them, that carries a behaviour of the "
    "model.",
    "clean run": "The forward pass of a prompt without any edit.",
    "co-activation": "How often two features are active at the same token; ranked by phi, the "
    "correlation of the two on/off variables.",
    "completion": "The text that a model generates after a prompt.",
    "confidence interval": "The range that covers the true value in 95 % of repeated samples.",
    "context": "A window of corpus tokens around an activation of a feature.",
    "corrupted prompt": "A prompt that differs from the clean one in the detail that decides the "
    "answer.",
    "cross-layer transcoder": "A transcoder that reads at one layer and writes to that layer and "
    "the layers after it.",
    "decoder direction": "The vector that a feature adds to the model's activations per unit of "
    "its own activation.",
    "density": "The share of counted tokens at which a feature is active.",
    "detection": "A scorer: a judge reads an explanation and says for each window whether the "
    "feature is active in it.",
    "dictionary": "A sparse autoencoder, a transcoder, or any other set of features with an "
    "encoder and a decoder.",
    "direct feature attribution": "The contributions of heads and source tokens to the activation "
    "of a feature that reads attention outputs.",
    "edit": "A change of one or more feature activations during a forward pass: ablate, clamp, "
    "scale or add.",
    "effect": "The change of a target when a node is ablated.",
    "error term": "The part of an activation that the dictionary does not reconstruct. It always "
    "stays in an edited run unless a study removes it.",
    "explained variance": "1 − (squared reconstruction error ÷ variance of the activations).",
    "explanation": "A sentence that says when a feature is active.",
    "faithfulness": "The share of the model's behaviour that a circuit keeps: (F(circuit) − "
    "F(empty)) ÷ (F(model) − F(empty)), over prompts.",
    "feature": "One entry of a dictionary: an encoder row that reads and a decoder direction that "
    "writes.",
    "fuzzing": "A scorer: a judge reads an explanation and says whether the marked tokens of a "
    "window are those at which the feature is active.",
    "harvest": "One pass of a corpus through a model that records the statistics and the contexts "
    "of every feature.",
    "hook point": "The place in a model at which activations are read or changed.",
    "judge": "The language model, or the rule, that answers a scorer's questions.",
    "KL divergence": "How far the edited next-token distribution is from the clean one, in nats.",
    "L0": "The mean number of active features per counted token.",
    "label": "A short name that a person gave to a feature.",
    "logit lens": "The logits that a decoder direction adds to each token of the vocabulary along "
    "the direct path, per unit of activation.",
    "loss increase": "The rise of the next-token cross-entropy, in nats, when a dictionary's "
    "reconstruction replaces the activations.",
    "next token": "The token that the model predicts after the last token of a text.",
    "node": "A feature or an error term at one position, or one slot, of a prompt.",
    "null": "What a figure would be if there were nothing to find; it is measured with random "
    "features, shuffled labels or random circuits.",
    "null dictionary": "A dictionary without learned features (random directions, neurons or "
    "principal components), harvested and scored like a trained one.",
    "phi": "The correlation of two on/off variables, from −1 to 1.",
    "position": "The index of a token in its sequence.",
    "prediction cluster": "A group of tokens of the corpus whose next-token predictions depend on "
    "the same parts of the model.",
    "probe": "A linear classifier that reads a concept from activations.",
    "prompt": "The text given to the model.",
    "reconstruction": "The activations that a dictionary decodes from its features.",
    "recovery": "The share of the loss lost by ablation that the reconstruction brings back; it is "
    "stated against zero and against mean ablation.",
    "residual stream": "The vector that every layer of a transformer reads from and adds to.",
    "retrain": "Fit a probe again after features were ablated.",
    "sampling": "Drawing the next token from the model's distribution.",
    "scorer": "A test of an explanation: detection, fuzzing, simulation and others.",
    "silent window": "A window in which a feature is inactive at every counted token.",
    "simulation": "A scorer: a judge predicts the activation at every token from the explanation; "
    "the score is the correlation with the true activations.",
    "sparse autoencoder": "A dictionary that reconstructs the activations that it reads.",
    "splice": "Replace a model's activations by the reconstruction of a dictionary.",
    "split": "The half of the corpus that explanations are written from (explain) or tested on "
    "(score).",
    "steer": "Change a model's completion by editing features or adding a steering vector.",
    "steering vector": "A direction that is added to the residual stream while the model "
    "generates.",
    "store": "The folder that holds harvests, explanations, labels, lists and jobs.",
    "stratum": "A range of activation strength from which contexts are sampled.",
    "target": "The quantity that a study explains, such as the logit of an answer less the logit "
    "of a wrong answer.",
    "token": "A piece of text that the model reads as one unit.",
    "transcoder": "A dictionary that reads the input of a part of the model, such as an MLP, and "
    "reconstructs its output.",
    "window": "A fixed number of corpus tokens, 32 by default.",
}
"""Each term of the field and its definition, in one sentence, in alphabetical order."""


def define_term(term: str) -> str:
    """Return the glossary's definition of a term; raise `KeyError` for a term it does not hold."""
    return TERMS[term]
