"""Long work, each job a folder `jobs/<id>/`: what was asked, how far it is, and who is at it.

The folders are the list of jobs: a page that counts them opens no catalog, a job reports while
the catalog is busy, and list and work cannot disagree. A job is a process of its own: it outlives
the page and the app that started it. Files of the folder, each replaced as a whole:

- `job.json`: kind, arguments, when; written once, before the folder has its name
- `state.json`: how it stands; written by the job's process alone while that holds `lock`
- `lock`: held by the process as long as it lives, however it ends
- `pause`, `cancel`: wishes of others, by being there
- `log.txt`: lines of text

What a job collects beyond that is its own `jobs/<id>.duckdb`.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import FileLock, Timeout

from feature_store.atomic_file import write_file
from feature_store.errors import InputError, pick
from feature_store.strict_json import dump_json, parse_json

State = Literal["queued", "running", "paused", "done", "failed", "cancelled", "lost"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
RESUMABLE: tuple[State, ...] = ("failed", "cancelled", "lost")
PATIENCE_S = 60.0
"""How long a process may take to begin before its job counts as lost."""
LOG_BYTES = 60_000
"""What is read of a log's end."""


@dataclass(frozen=True)
class Job:
    """A job as it stood when it was read."""

    id: str
    folder: Path
    kind: str
    what: str
    """What it works on, in words."""
    arguments: dict[str, Any]
    created: datetime
    state: State
    """`lost`: its process went away without a word."""
    asked: Literal["", "pause", "cancel"]
    """A wish that its process has not answered yet."""
    done: int = 0
    total: int = 0
    """Of the present stage, in steps of its own; 0 while that is not known."""
    note: str = ""
    """The present stage in words."""
    started: datetime | None = None
    ended: datetime | None = None
    eta_s: float | None = None
    """Seconds left of the present stage, at its pace so far."""
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether something is, or will be, at it."""
        return self.state in ("queued", "running", "paused")

    @property
    def data(self) -> Path:
        """Where a kind of job keeps what it collects, if it does."""
        return self.folder.with_name(f"{self.id}.duckdb")

    def log(self) -> str:
        """The end of its log."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""


class Jobs:
    """The jobs of a store. Reading is cheap: a small file each, and a look at who holds a lock."""

    def __init__(self, store: Path) -> None:
        self.path = store / "jobs"
        self._ended: dict[str, tuple[int, Job]] = {}

    def all(self) -> list[Job]:
        """Newest first."""
        folders = [path.parent for path in self.path.glob("[!.]*/job.json")]
        found = [job for folder in folders if (job := self._read(folder))]
        return sorted(found, key=lambda job: (job.created, job.id), reverse=True)

    def alive(self) -> list[Job]:
        """Those that are queued, running or paused, newest first."""
        return [job for job in self.all() if job.alive]

    def get(self, job_id: str) -> Job:
        """The job of that id, or an InputError."""
        return pick("job", job_id, {job.id: job for job in self.all()})

    def latest(self, kind: str, arguments: Mapping[str, Any]) -> Job | None:
        """The newest job of a kind with at least these arguments."""
        for job in self.all():
            if job.kind == kind and arguments.items() <= job.arguments.items():
                return job
        return None

    def create(self, kind: str, arguments: Mapping[str, Any], what: str) -> Job:
        """A queued job; somebody has to start its process. InputError where nothing can be written.

        `arguments` must be fit for JSON, and hold no secret: they stay in the folder.
        """
        now = datetime.now(UTC)
        job_id = f"{kind}-{now:%Y%m%d-%H%M%S}-{uuid4().hex[:4]}"
        fresh = self.path / f".{job_id}"
        asked = {"kind": kind, "what": what, "arguments": dict(arguments), "created": stamp(now)}
        try:
            fresh.mkdir(parents=True)
            write_json(fresh / "job.json", asked)
            queue(fresh)
            fresh.rename(self.path / job_id)
        except OSError as error:
            raise InputError(f"No job can be made in {self.path}: {error.strerror}.") from error
        return self.get(job_id)

    def pause(self, job: Job) -> None:
        """Ask it to wait at its next step."""
        wish(job, "pause")

    def cancel(self, job: Job) -> None:
        """Ask it to end at its next step."""
        wish(job, "cancel")

    def proceed(self, job: Job) -> None:
        """Take back a pause."""
        (job.folder / "pause").unlink(missing_ok=True)

    def renew(self, job: Job) -> Job:
        """Queue a job again that ended or was lost; somebody has to start its process."""
        job = self.get(job.id)
        if job.state not in RESUMABLE:
            raise InputError(f"The job {job.id} is {job.state}: there is nothing to resume.")
        for name in ("pause", "cancel"):
            (job.folder / name).unlink(missing_ok=True)
        queue(job.folder)
        return self.get(job.id)

    def delete(self, job: Job) -> None:
        """Remove a job and all that it collected; InputError while it is alive."""
        job = self.get(job.id)
        if job.alive:
            raise InputError(f"The job {job.id} is {job.state}. Cancel it first.")
        away = job.folder.with_name(f".{job.id}.{uuid4().hex[:4]}")
        job.folder.rename(away)  # gone from the list at once, whatever the rest takes
        shutil.rmtree(away, ignore_errors=True)
        for path in (job.data, job.data.with_name(f"{job.data.name}.wal")):
            path.unlink(missing_ok=True)

    def _read(self, folder: Path) -> Job | None:
        """The job of a folder; None for a folder that is no job's, or was deleted meanwhile."""
        try:
            changed = (folder / "state.json").stat().st_mtime_ns
            kept = self._ended.get(folder.name)
            if kept and kept[0] == changed:
                return kept[1]
            job = read(folder)
        except (OSError, ValueError, KeyError):
            return None
        if job.state in ENDED:  # it stays so until it is queued again
            self._ended[job.id] = (changed, job)
        return job


def read(folder: Path) -> Job:
    """A job as its files say. Raises OSError, ValueError or KeyError for a folder that is none."""
    asked = read_json(folder / "job.json")
    said = read_json(folder / "state.json")
    if said["state"] not in ENDED and not held(folder / "lock"):
        said = read_json(folder / "state.json")  # it may have ended between the two looks
        waiting = said["state"] == "queued" and age_s(said["queued"]) < PATIENCE_S
        if said["state"] not in ENDED and not waiting:
            said["state"], said["eta_s"] = "lost", None
    times = {name: moment(said.get(name)) for name in ("started", "ended")}
    plain = {name: said[name] for name in ("done", "total", "note", "eta_s", "error", "result")
             if name in said}  # fmt: skip
    return Job(
        id=folder.name, folder=folder, kind=asked["kind"], what=asked["what"],
        arguments=asked["arguments"], created=datetime.fromisoformat(asked["created"]),
        state=said["state"], asked=wished(folder, said["state"]), **times, **plain,
    )  # fmt: skip


def wished(folder: Path, state: State) -> Literal["", "pause", "cancel"]:
    """What a living job was asked and has not done."""
    if state in ("queued", "running", "paused") and (folder / "cancel").exists():
        return "cancel"
    return "pause" if state in ("queued", "running") and (folder / "pause").exists() else ""


def wish(job: Job, name: Literal["pause", "cancel"]) -> None:
    """Leave a wish for a job's process."""
    if not job.alive:
        raise InputError(f"The job {job.id} is {job.state}: there is nothing to {name}.")
    (job.folder / name).touch()


def queue(folder: Path) -> None:
    """State before a process takes the job."""
    write_json(folder / "state.json", {"state": "queued", "queued": stamp(datetime.now(UTC))})


def held(lock: Path) -> bool:
    """Whether a living process holds a lock; so also where that cannot be known.

    The system lets a lock go when its holder ends, however it ends, and no later process can be
    taken for the holder, as with a number of a process. Another reader's look is over in
    microseconds: hence the second try.
    """
    try:
        with FileLock(lock, timeout=0.004, poll_interval=0.001):
            return False
    except (Timeout, OSError):
        return True


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file: readers see the old or the new, also when two threads write at once."""
    write_file(path, dump_json(content), sync=False)  # as often as a job says how far it is


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    return parse_json(path.read_text(encoding="utf-8"))


def stamp(time: datetime) -> str:
    """A moment in UTC as the files write it."""
    return time.astimezone(UTC).isoformat()


def moment(text: str | None) -> datetime | None:
    """The moment that a file names."""
    return datetime.fromisoformat(text) if text else None


def age_s(text: str) -> float:
    """Seconds since a moment."""
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
