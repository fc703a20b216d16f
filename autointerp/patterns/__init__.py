"""Labels made of patterns: learnt from windows, written as a sentence, read back by a judge."""

from autointerp.patterns.judge import fires, where
from autointerp.patterns.learning import learn
from autointerp.patterns.records import Pattern, Rule
from autointerp.patterns.sentence import parse, render

__all__ = ["Pattern", "Rule", "fires", "learn", "parse", "render", "where"]
