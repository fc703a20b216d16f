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
from feature_store.errors import InputError, pick_by_name
from feature_store.job_records import JobProgress, JobRequest, JobState
from feature_store.strict_json import dump_json, parse_json

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled", "stopped")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "stopped", "lost")
PATIENCE_S = 60.0
"""How long a process may take to begin before its job counts as lost."""
SHOWN_FIELDS = ("done", "total", "note", "error", "result", "started", "ended")
"""What a job shows of its state as it is written."""
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
    state: JobState
    """`stopped`: ended by Ctrl-C or after a trial, and can go on. `lost`: its process went away
    without a word."""
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
        """Newest first; folders that hold no job are left out (see `problems`)."""
        found, _ = self._scan()
        return sorted(found, key=lambda job: (job.created, job.id), reverse=True)

    def problems(self) -> list[str]:
        """Return one sentence for every folder in jobs/ that cannot be read as a job."""
        return list(self._scan()[1].values())

    def alive(self) -> list[Job]:
        """Those that are queued, running or paused, newest first."""
        return [job for job in self.all() if job.alive]

    def get(self, job_id: str) -> Job:
        """The job of that id, or an InputError; it says what is wrong with that job's folder."""
        found, problems = self._scan()
        if job_id in problems:
            raise InputError(problems[job_id])
        return pick_by_name("job", job_id, {job.id: job for job in found})

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
        asked = {
            "kind": kind,
            "what": what,
            "arguments": dict(arguments),
            "created": format_timestamp(now),
        }
        try:
            fresh.mkdir(parents=True)
            write_json_file(fresh / "job.json", asked)
            write_queued_state(fresh)
            fresh.rename(self.path / job_id)
        except OSError as error:
            raise InputError(f"No job can be made in {self.path}: {error.strerror}.") from error
        return self.get(job_id)

    def pause(self, job: Job) -> None:
        """Ask it to wait at its next step."""
        request_action(job, "pause")

    def cancel(self, job: Job) -> None:
        """Ask it to end at its next step."""
        request_action(job, "cancel")

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
        write_queued_state(job.folder)
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

    def _scan(self) -> tuple[list[Job], dict[str, str]]:
        """Return the jobs, and the problem of each folder that holds none, by its name."""
        jobs: list[Job] = []
        problems: dict[str, str] = {}
        for folder in sorted(self.path.glob("[!.]*/")):
            try:
                jobs.append(self._read(folder))
            except (InputError, OSError) as bad:
                if folder.is_dir():  # else it was deleted meanwhile
                    problems[folder.name] = (
                        f"The job {folder.name} cannot be read: {describe_read_error(bad)} "
                        f"Delete the folder "
                        f"{folder}, or restore its files."
                    )
        return jobs, problems

    def _read(self, folder: Path) -> Job:
        """Return the job of a folder; InputError or OSError for a folder that holds none."""
        changed = (folder / "state.json").stat().st_mtime_ns
        kept = self._ended.get(folder.name)
        if kept and kept[0] == changed:
            return kept[1]
        job = read_job(folder)
        if job.state in ENDED:  # it stays so until it is queued again
            self._ended[job.id] = (changed, job)
        return job


def describe_read_error(bad: InputError | OSError) -> str:
    """Return what is wrong with a file as a sentence."""
    if isinstance(bad, InputError):
        return str(bad)
    name = Path(str(bad.filename)).name
    if isinstance(bad, FileNotFoundError):
        return f"it has no {name}."
    return f"{name} cannot be read ({bad.strerror})."


def read_job(folder: Path) -> Job:
    """A job as its files say. Raises InputError or OSError for a folder that is none."""
    asked = JobRequest.read(read_json_object(folder / "job.json"), "job.json")
    said = JobProgress.read(read_json_object(folder / "state.json"), "state.json")
    state: JobState = said.state
    if state not in ENDED and not is_lock_held(folder / "lock"):
        said = JobProgress.read(read_json_object(folder / "state.json"), "state.json")
        state = said.state  # it may have ended between the two looks
        waiting = (
            state == "queued"
            and said.queued is not None
            and seconds_since(said.queued) < PATIENCE_S
        )
        if state not in ENDED and not waiting:
            state = "lost"
    eta_s = None if state == "lost" else said.eta_s
    plain = {name: getattr(said, name) for name in SHOWN_FIELDS if name in said.model_fields_set}
    return Job(
        id=folder.name,
        folder=folder,
        kind=asked.kind,
        what=asked.what,
        arguments=asked.arguments,
        created=asked.created,
        state=state,
        asked=find_requested_action(folder, state),
        eta_s=eta_s,
        **plain,
    )


def find_requested_action(folder: Path, state: JobState) -> Literal["", "pause", "cancel"]:
    """What a living job was asked and has not done."""
    if state in ("queued", "running", "paused") and (folder / "cancel").exists():
        return "cancel"
    return "pause" if state in ("queued", "running") and (folder / "pause").exists() else ""


def request_action(job: Job, name: Literal["pause", "cancel"]) -> None:
    """Leave a wish for a job's process."""
    if not job.alive:
        raise InputError(f"The job {job.id} is {job.state}: there is nothing to {name}.")
    (job.folder / name).touch()


def write_queued_state(folder: Path) -> None:
    """State before a process takes the job."""
    write_json_file(
        folder / "state.json", {"state": "queued", "queued": format_timestamp(datetime.now(UTC))}
    )


def is_lock_held(lock: Path) -> bool:
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


def write_json_file(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file: readers see the old or the new, also when two threads write at once."""
    write_file(path, dump_json(content), sync=False)  # as often as a job says how far it is


def read_json_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; InputError that names the file for what is none."""
    found = parse_json(path.read_bytes(), f"{path.name} is not JSON")
    if not isinstance(found, dict):
        raise InputError(f"{path.name} is not a JSON object.")
    return found


def format_timestamp(time: datetime) -> str:
    """A moment in UTC as the files write it."""
    return time.astimezone(UTC).isoformat()


def seconds_since(time: datetime) -> float:
    """Seconds since a moment."""
    return (datetime.now(UTC) - time).total_seconds()
