"""`python -m bench.startup` measures containers and peers; `pytest bench --benchmark-only` parts of pycontain."""
