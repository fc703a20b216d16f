"""The kinds of jobs: what each does, put together from the parts. One line adds one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of long work."""

    title: str
    """As the list of jobs says it."""
    module: str
    """Has `do(store: Store, work: Work) -> dict`; imported by the job's process only.

    It reads `work.arguments`, calls `work.progress` at every step, and gives what is worth keeping
    as JSON. After a crash it is called again with the same arguments: what it had done by then it
    finds in `work.job.data_path` or wherever it published it.
    """


KINDS = {
    "map": Kind("map", "app.jobs.mapping"),
    "series": Kind("jobs one after the other", "app.jobs.series"),
    "explain": Kind("explanations", "app.jobs.explaining"),
    "score": Kind("scores", "app.jobs.scoring"),
    "circuit": Kind("circuit", "app.jobs.circuits"),
    "clusters": Kind("circuits in bulk", "app.jobs.clustering"),
    "ablate": Kind("ablation over a data set", "app.jobs.ablating"),
}
