"""The language-model side: words to and from a language model about stored features."""
