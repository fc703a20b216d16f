"""The language model: loading, hook points, fast and partial forward passes, vocabulary, device,
memory and speed."""
