"""Pattern labels: explanations made of token patterns, learned from text windows by counting,
written as a sentence, and applied by a judge that needs no language model."""

from autointerp.patterns.pattern_judge import firing_probability, token_firing_probabilities
from autointerp.patterns.pattern_learner import learn_patterns
from autointerp.patterns.pattern_sentence import parse_rule, render_rule
from autointerp.patterns.token_patterns import PatternRule, TokenPattern

__all__ = [
    "TokenPattern",
    "PatternRule",
    "firing_probability",
    "learn_patterns",
    "parse_rule",
    "render_rule",
    "token_firing_probabilities",
]
