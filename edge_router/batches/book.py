"""All files and batches of one tenant in SQLite: which there are, what state they are in, what is to be done next.

A batch goes `validating -> in_progress -> finalizing -> completed`, or ends as `failed`, `expired` or `cancelled`.
Work is given out as messages and expected back within a lease; what does not come back is given out again. Results
may come more than once and late: of each line the first one counts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..sql import Sql

WINDOW_S = 24 * 3600
MAX_OUT = 200  # chunks of one batch that are given out at a time
MAX_LOSSES = 5  # of one chunk: how often its lease may run out
SEND_AGAIN_S = 5.0  # what the queue did not take
CANCEL_GRACE_S = 60.0  # for chunks that are being worked on when their batch ends early
KEEP_BATCH_S = 30 * 24 * 3600  # after its end

Json = dict[str, Any]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
ENDED = ("failed", "completed", "expired", "cancelled")
_ENDED = "('failed', 'completed', 'expired', 'cancelled')"
_UNUSED = f"id NOT IN (SELECT input FROM batches WHERE status NOT IN {_ENDED})"  # files that no batch still reads

WAITING, OUT, CLOSED = 0, 1, 2  # states of a chunk


def file_record(
    file_id: str, *, filename: str, size_bytes: int, purpose: str, created_s: float, expires_s: float | None
) -> Json:
    """A file as OpenAI shows it. expires_s: Unix time, None: never."""
    record: Json = {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": int(created_s),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    return record if expires_s is None else {**record, "expires_at": int(expires_s)}


class BatchBook:
    """The files and batches of one tenant. What goes in and out of each method is JSON: it is called from afar.

    lease_s: for a message to be worked on, from when it is sent or taken up. now_s: Unix time.
    """

    def __init__(self, sql: Sql, *, lease_s: float) -> None:
        self._sql = sql
        self._lease_s = lease_s
        for table in (
            "files (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, purpose TEXT, expires_s REAL,"
            " facts TEXT)",
            "batches (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, status TEXT, input TEXT, task TEXT,"
            " due_s REAL, facts TEXT)",
            "chunks (batch TEXT, number INTEGER, state INTEGER, due_s REAL, sent INTEGER, losses INTEGER,"
            " taken INTEGER, place TEXT, progress TEXT, PRIMARY KEY (batch, number))",
        ):
            sql.exec(f"CREATE TABLE IF NOT EXISTS {table}")
        sql.exec("CREATE INDEX IF NOT EXISTS chunks_due ON chunks (batch, state, due_s)")

    # Files

    def add_file(self, file: Json, *, now_s: float) -> None:
        self._sql.exec(
            "INSERT OR REPLACE INTO files (id, purpose, expires_s, facts) VALUES (?, ?, ?, ?)",
            file["id"], file["purpose"], file.get("expires_at"), json.dumps(file),
        )  # fmt: skip

    def file(self, file_id: str, *, now_s: float) -> Json | None:
        rows = self._sql.exec(
            "SELECT facts FROM files WHERE id = ? AND (expires_s IS NULL OR expires_s > ?)", file_id, now_s
        )
        return json.loads(rows[0]["facts"]) if rows else None

    def files(
        self, *, after: str | None, limit: int, is_ascending: bool, purpose: str | None, now_s: float
    ) -> tuple[list[Json], bool]:
        """One page, and whether more come after it."""
        direction, beyond = ("ASC", ">") if is_ascending else ("DESC", "<")
        rows = self._sql.exec(
            f"SELECT facts FROM files WHERE (expires_s IS NULL OR expires_s > ?) AND (? IS NULL OR purpose = ?)"
            f" AND (? IS NULL OR number {beyond} (SELECT number FROM files WHERE id = ?))"
            f" ORDER BY number {direction} LIMIT ?",
            now_s, purpose, purpose, after, after, limit + 1,
        )  # fmt: skip
        return [json.loads(row["facts"]) for row in rows[:limit]], len(rows) > limit

    def delete_file(self, file_id: str, *, now_s: float) -> Literal["deleted", "unknown", "in_use"]:
        """A file that a batch still reads stays."""
        if self.file(file_id, now_s=now_s) is None:
            return "unknown"
        gone = self._sql.exec(f"DELETE FROM files WHERE id = ? AND {_UNUSED} RETURNING id", file_id)
        return "deleted" if gone else "in_use"

    def take_expired_files(self, now_s: float) -> list[str]:
        """Those whose contents can go now; they are no longer known."""
        rows = self._sql.exec(f"DELETE FROM files WHERE expires_s <= ? AND {_UNUSED} RETURNING id", now_s)
        return [str(row["id"]) for row in rows]

    # Batches as callers see them

    def create(self, batch: Json, *, now_s: float) -> Json:
        """batch: as OpenAI shows it, and under `internal` what callers are not shown."""
        self._sql.exec(
            "INSERT INTO batches (id, status, input, task, due_s, facts) VALUES (?, ?, ?, 'validate', 0, ?)",
            batch["id"], batch["status"], batch["input_file_id"], json.dumps(batch),
        )  # fmt: skip
        return batch

    def batch(self, batch_id: str, *, now_s: float = 0) -> Json | None:
        rows = self._sql.exec("SELECT facts FROM batches WHERE id = ?", batch_id)
        batch: Json | None = json.loads(rows[0]["facts"]) if rows else None
        return batch

    def batches(self, *, after: str | None, limit: int, now_s: float) -> tuple[list[Json], bool]:
        """Newest first; one page, and whether more come after it."""
        rows = self._sql.exec(
            "SELECT facts FROM batches WHERE ? IS NULL OR number < (SELECT number FROM batches WHERE id = ?)"
            " ORDER BY number DESC LIMIT ?",
            after, after, limit + 1,
        )  # fmt: skip
        return [json.loads(row["facts"]) for row in rows[:limit]], len(rows) > limit

    def cancel(self, batch_id: str, *, now_s: float) -> Json | None:
        """The batch as it is then. One that is being finalized or has ended stays as it is, and is not touched."""
        batch = self.batch(batch_id)
        if batch is not None and batch["status"] in ("validating", "in_progress"):
            self._end_early(batch, "cancelled", now_s)
        return batch

    # What the consumer asks

    def task(self, batch_id: str, task: str, *, now_s: float = 0) -> Json | None:
        """The batch, if this is still what is to be done with it."""
        rows = self._sql.exec("SELECT facts FROM batches WHERE id = ? AND task = ?", batch_id, task)
        return json.loads(rows[0]["facts"]) if rows else None

    def begin_chunks(self, batch_id: str, *, now_s: float) -> None:
        """Of a file that is read from its start, again perhaps."""
        if self.task(batch_id, "validate"):
            self._sql.exec("DELETE FROM chunks WHERE batch = ?", batch_id)

    def add_chunks(self, batch_id: str, chunks: Sequence[Json], *, now_s: float) -> None:
        if self.task(batch_id, "validate"):
            for chunk in chunks:
                self._sql.exec(
                    "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, 0, 0, 0, 0, ?, '{}')",
                    batch_id, chunk["number"], WAITING, json.dumps(chunk),
                )  # fmt: skip

    def start(self, batch_id: str, total: int, *, upstream: Json | None = None, now_s: float) -> None:
        """All chunks are there. upstream: `{"id", …}` of the provider that may have the batch whole."""
        batch = self.task(batch_id, "validate")
        if batch is not None:
            batch["request_counts"]["total"] = total
            batch["in_progress_at"] = int(now_s)
            batch["internal"]["upstream"] = upstream
            self._put(batch, "in_progress", task="hand_over" if upstream else None, due_s=0)

    def fail(self, batch_id: str, errors: Sequence[Json], *, now_s: float) -> None:
        batch = self.task(batch_id, "validate")
        if batch is not None:
            batch["errors"] = {"object": "list", "data": list(errors)}
            batch["failed_at"] = int(now_s)
            self._forget_chunks(batch_id)
            self._put(batch, "failed", task=None, due_s=now_s + KEEP_BATCH_S)

    def claim(self, batch_id: str, number: int, sent: int, *, now_s: float) -> Json | None:
        """What is still to be answered of a chunk; None when nothing is, or when the message is not its latest one.

        `{…the chunk, "open": [places], "attempts": {place: count}, "endpoint", "input_file_id", "key_id"}`.
        """
        row = self._chunk(batch_id, number)
        batch = self.batch(batch_id)
        if row is None or batch is None or batch["status"] != "in_progress":
            return None
        if row["state"] != OUT or row["sent"] != sent:
            return None
        self._sql.exec(
            "UPDATE chunks SET taken = 1, due_s = ? WHERE batch = ? AND number = ?",
            now_s + self._lease_s, batch_id, number,
        )  # fmt: skip
        chunk, progress = json.loads(row["place"]), json.loads(row["progress"])
        done = progress.get("done", {})
        open_lines = [place for place in range(chunk["lines"]) if str(place) not in done]
        asked = {"endpoint": batch["endpoint"], "input_file_id": batch["input_file_id"]}
        asked["key_id"] = batch["internal"]["key_id"]
        return {**chunk, "open": open_lines, "attempts": progress.get("attempts", {}), **asked}

    def record(
        self,
        batch_id: str,
        number: int,
        *,
        part: str,
        part_bytes: int,
        results: Sequence[Sequence[int]],
        retries: Mapping[str, float],
        now_s: float,
    ) -> None:
        """results: [place, 1 if it is a success, input tokens, output tokens], whose lines stand in `part`,
        which is so many bytes long.

        retries: places to be tried again, and after how many seconds. Places in neither stay open and are given out
        again at once.
        """
        row, batch = self._chunk(batch_id, number), self.batch(batch_id)
        if (
            row is None
            or batch is None
            or batch["status"] not in ("in_progress", "cancelling")
            or row["state"] == CLOSED
        ):
            return
        chunk, progress = json.loads(row["place"]), json.loads(row["progress"])
        done, parts = progress.setdefault("done", {}), progress.setdefault("parts", [])
        first_ones = [result for result in results if str(result[0]) not in done]
        if first_ones:
            parts.append(part)
            progress["parts_bytes"] = progress.get("parts_bytes", 0) + part_bytes
        for place, is_ok, tokens_in, tokens_out in first_ones:
            done[str(place)] = [len(parts) - 1, is_ok]
            self._count(batch, bool(is_ok), tokens_in, tokens_out)
        attempts = progress.setdefault("attempts", {})
        for place_name in retries:
            attempts[place_name] = attempts.get(place_name, 0) + 1
        is_closed = len(done) == chunk["lines"]
        delay_s = max(retries.values(), default=0.0)
        self._sql.exec(
            "UPDATE chunks SET state = ?, taken = 0, due_s = ?, progress = ? WHERE batch = ? AND number = ?",
            CLOSED if is_closed else WAITING, now_s + delay_s, json.dumps(progress), batch_id, number,
        )  # fmt: skip
        self._put(batch, batch["status"])
        self._close_if_done(batch, now_s)

    def give_up(self, batch_id: str, number: int, *, now_s: float) -> None:
        """The lines of a chunk that are still open will never be answered: working on them broke off every time."""
        row, batch = self._chunk(batch_id, number), self.batch(batch_id)
        if row is None or batch is None or row["state"] == CLOSED or batch["status"] in ENDED:
            return
        chunk, progress = json.loads(row["place"]), json.loads(row["progress"])
        done = progress.setdefault("done", {})
        for place in range(chunk["lines"]):
            if str(place) not in done:
                done[str(place)] = [-1, 0]
                self._count(batch, False, 0, 0)
        self._sql.exec(
            "UPDATE chunks SET state = ?, taken = 0, progress = ? WHERE batch = ? AND number = ?",
            CLOSED, json.dumps(progress), batch_id, number,
        )  # fmt: skip
        self._put(batch, batch["status"])
        self._close_if_done(batch, now_s)

    # Of a batch that a provider has whole: its tasks are `hand_over`, then `poll` until it has ended there

    def note_upstream(self, batch_id: str, facts: Json, *, delay_s: float, now_s: float) -> bool:
        """What is known of it by now, and when to ask again. False when nobody wants to know any more.

        facts: `batch`, once the provider has it; perhaps `counts`, as in `request_counts`.
        """
        batch = self._elsewhere(batch_id)
        if batch is None:
            return False
        known = batch["internal"]["upstream"]
        if facts.get("batch", known.get("batch")) != known.get("batch", facts.get("batch")):
            return False  # somebody else handed it over meanwhile
        batch["request_counts"] |= facts.pop("counts", {})
        known |= facts
        task = "poll" if "batch" in known else "hand_over"
        self._put(batch, batch["status"], task=task, due_s=now_s + delay_s)
        return True

    def end_upstream(self, batch_id: str, facts: Json, *, ending: Status | None = None, now_s: float) -> None:
        """The provider has done with it: its results are to be collected. ending: if it is not what we know of."""
        batch = self._elsewhere(batch_id)
        if batch is not None:
            batch["internal"]["upstream"] |= facts
            if batch["internal"]["ending"] == "completed" and ending is not None:
                batch["internal"]["ending"] = ending
            self._finalize(batch, now_s)

    def take_back(self, batch_id: str, *, now_s: float) -> None:
        """The provider will not do it: the lines are answered here, as those of any other batch."""
        batch = self._elsewhere(batch_id)
        if batch is None:
            return
        batch["internal"]["upstream"] = None
        batch["request_counts"] |= {"completed": 0, "failed": 0}
        if batch["internal"]["ending"] == "completed":
            self._put(batch, batch["status"], task=None)
        else:
            self._finalize(batch, now_s)

    def progress(self, batch_id: str, after: int, limit: int, *, now_s: float) -> list[Json]:
        """Chunks in order, those behind number `after`.

        Each `{…the chunk, "done": {place: [number of its part or -1, 1 or 0]}, "parts": [names], "parts_bytes"}`.
        """
        rows = self._sql.exec(
            "SELECT place, progress FROM chunks WHERE batch = ? AND number > ? ORDER BY number LIMIT ?",
            batch_id, after, limit,
        )  # fmt: skip
        empty: Json = {"done": {}, "parts": [], "parts_bytes": 0}
        return [{**json.loads(row["place"]), **empty, **json.loads(row["progress"])} for row in rows]

    def finish(
        self,
        batch_id: str,
        files: Sequence[Json],
        failed: int,
        *,
        completed: int | None = None,
        tokens: tuple[int, int] | None = None,
        now_s: float,
    ) -> bool:
        """The result files are written; True the first time. failed: lines that are in the error file.

        completed, tokens (in, out): where they were not counted line by line.
        """
        batch = self.task(batch_id, "assemble")
        if batch is None:
            return False
        for file in files:
            self.add_file(file, now_s=now_s)
            name = "output_file_id" if file["id"] == batch["internal"]["output_file_id"] else "error_file_id"
            batch[name] = file["id"]
        batch["request_counts"]["failed"] = failed
        if completed is not None:
            batch["request_counts"]["completed"] = completed
        if tokens is not None:
            batch["usage"] |= {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
        status: Status = batch["internal"]["ending"]
        batch[f"{status}_at"] = int(now_s)
        self._forget_chunks(batch_id)
        self._put(batch, status, task=None, due_s=now_s + KEEP_BATCH_S)
        return True

    # What is to be done next

    def due(self, now_s: float, limit: int) -> list[Json]:
        """Messages to be sent now, at most about `limit`; counted as sent."""
        self._end_expired(now_s)
        messages: list[Json] = []
        for row in self._sql.exec("SELECT id, task FROM batches WHERE task IS NOT NULL AND due_s <= ?", now_s):
            self._sql.exec("UPDATE batches SET due_s = ? WHERE id = ?", now_s + self._lease_s, row["id"])
            messages.append({"op": row["task"], "batch": row["id"]})
        for row in self._sql.exec("SELECT id FROM batches WHERE status = 'in_progress' AND task IS NULL"):
            messages += self._due_chunks(str(row["id"]), now_s, limit - len(messages))
        return messages

    def put_back(self, orders: Sequence[Json], *, now_s: float) -> None:
        """What `due` gave out and the queue did not take is due again soon. Work that has begun goes on."""
        soon_s = now_s + SEND_AGAIN_S
        for order in orders:
            if order["op"] == "answer":
                self._sql.exec(
                    f"UPDATE chunks SET state = {WAITING}, due_s = ?"
                    f" WHERE batch = ? AND number = ? AND sent = ? AND state = {OUT} AND taken = 0",
                    soon_s, order["batch"], order["chunk"], order["sent"],
                )  # fmt: skip
            else:
                self._sql.exec(
                    "UPDATE batches SET due_s = MIN(due_s, ?) WHERE id = ? AND task = ?",
                    soon_s, order["batch"], order["op"],
                )  # fmt: skip

    def wake_s(self, now_s: float) -> float | None:
        """When there will be something to do; None: when somebody asks for it."""
        times: list[float] = []

        def note(query: str, *values: str | int) -> None:
            times.extend(row["at_s"] for row in self._sql.exec(query, *values) if row["at_s"] is not None)

        note(f"SELECT MIN(expires_s) AS at_s FROM files WHERE {_UNUSED}")
        note("SELECT MIN(due_s) AS at_s FROM batches WHERE task IS NOT NULL OR status != 'in_progress'")
        for row in self._sql.exec("SELECT id, task, facts FROM batches WHERE status = 'in_progress'"):
            batch = json.loads(row["facts"])
            if batch["internal"]["ending"] == "completed":
                times.append(batch["expires_at"])
            if row["task"] is not None:
                continue
            first_due = "SELECT MIN(due_s) AS at_s FROM chunks WHERE batch = ? AND state = ?"
            note(first_due, row["id"], OUT)
            if self._room(row["id"]):
                note(first_due, row["id"], WAITING)
        return max(min(times), now_s) if times else None

    def _due_chunks(self, batch_id: str, now_s: float, limit: int) -> list[Json]:
        lost = self._sql.exec(
            f"SELECT number, losses FROM chunks WHERE batch = ? AND state = {OUT} AND due_s <= ?", batch_id, now_s
        )
        for row in lost:
            if row["losses"] + 1 >= MAX_LOSSES:
                self.give_up(batch_id, row["number"], now_s=now_s)
        self._sql.exec(
            f"UPDATE chunks SET state = {WAITING}, taken = 0, losses = losses + 1"
            f" WHERE batch = ? AND state = {OUT} AND due_s <= ?",
            batch_id, now_s,
        )  # fmt: skip
        room = min(limit, self._room(batch_id))
        rows = self._sql.exec(
            f"SELECT number, sent FROM chunks WHERE batch = ? AND state = {WAITING} AND due_s <= ?"
            " ORDER BY number LIMIT ?",
            batch_id, now_s, max(0, room),
        )  # fmt: skip
        for row in rows:
            self._sql.exec(
                f"UPDATE chunks SET state = {OUT}, sent = sent + 1, due_s = ? WHERE batch = ? AND number = ?",
                now_s + self._lease_s, batch_id, row["number"],
            )  # fmt: skip
        return [{"op": "answer", "batch": batch_id, "chunk": row["number"], "sent": row["sent"] + 1} for row in rows]

    def _room(self, batch_id: str) -> int:
        """How many more chunks may go out. They go out in bulk: none before half of the room is free."""
        (row,) = self._sql.exec(f"SELECT COUNT(*) AS out FROM chunks WHERE batch = ? AND state = {OUT}", batch_id)
        free = MAX_OUT - int(row["out"])
        return free if free >= MAX_OUT // 2 else 0

    def _end_expired(self, now_s: float) -> None:
        query = (
            "SELECT facts FROM batches WHERE status IN ('validating', 'in_progress')"
            " AND json_extract(facts, '$.expires_at') <= ? AND json_extract(facts, '$.internal.ending') = 'completed'"
        )
        for row in self._sql.exec(query, now_s):
            self._end_early(json.loads(row["facts"]), "expired", now_s)
        for row in self._sql.exec("SELECT facts FROM batches WHERE status = 'cancelling' AND task IS NULL"):
            self._close_if_done(json.loads(row["facts"]), now_s)
        self._sql.exec(f"DELETE FROM batches WHERE status IN {_ENDED} AND due_s <= ?", now_s)

    def _end_early(self, batch: Json, ending: Literal["cancelled", "expired"], now_s: float) -> None:
        """Lines that are being answered may still finish, for a while. Nothing is told of a file that is half read."""
        if batch["status"] == "validating":
            self._forget_chunks(batch["id"])
        batch["internal"]["ending"] = ending
        if batch["internal"].get("upstream"):
            if ending == "cancelled":
                batch["cancelling_at"] = int(now_s)
            status: Status = "cancelling" if ending == "cancelled" else batch["status"]
            self._put(batch, status, due_s=now_s)  # its task asks the provider to stop
            return
        if ending == "cancelled":
            batch["cancelling_at"] = int(now_s)
            self._put(batch, "cancelling", task=None, due_s=now_s + CANCEL_GRACE_S)
            self._close_if_done(batch, now_s)
        else:
            self._finalize(batch, now_s)

    def _close_if_done(self, batch: Json, now_s: float) -> None:
        """Finalizes a batch with nothing left to wait for."""
        if batch["status"] == "in_progress":
            left = self._sql.exec(f"SELECT 1 FROM chunks WHERE batch = ? AND state < {CLOSED} LIMIT 1", batch["id"])
        elif now_s >= batch["cancelling_at"] + CANCEL_GRACE_S:
            left = []
        else:
            left = self._sql.exec("SELECT 1 FROM chunks WHERE batch = ? AND taken = 1 LIMIT 1", batch["id"])
        if not left:
            self._finalize(batch, now_s)

    def _finalize(self, batch: Json, now_s: float) -> None:
        is_cancelling = batch["status"] == "cancelling"
        if not is_cancelling:
            batch["finalizing_at"] = int(now_s)
        self._put(batch, "cancelling" if is_cancelling else "finalizing", task="assemble", due_s=0)

    def _count(self, batch: Json, is_ok: bool, tokens_in: int, tokens_out: int) -> None:
        batch["request_counts"]["completed" if is_ok else "failed"] += 1
        usage = batch["usage"]
        usage["input_tokens"] += tokens_in
        usage["output_tokens"] += tokens_out
        usage["total_tokens"] += tokens_in + tokens_out

    def _elsewhere(self, batch_id: str) -> Json | None:
        """The batch, if a provider has it or is to have it."""
        return self.task(batch_id, "hand_over") or self.task(batch_id, "poll")

    def _chunk(self, batch_id: str, number: int) -> Mapping[str, Any] | None:
        rows = self._sql.exec("SELECT * FROM chunks WHERE batch = ? AND number = ?", batch_id, number)
        return rows[0] if rows else None

    def _forget_chunks(self, batch_id: str) -> None:
        self._sql.exec("DELETE FROM chunks WHERE batch = ?", batch_id)

    def _put(self, batch: Json, status: Status, **task: Any) -> None:
        """task: `task` and perhaps `due_s`, when they change."""
        batch["status"] = status
        self._sql.exec("UPDATE batches SET status = ?, facts = ? WHERE id = ?", status, json.dumps(batch), batch["id"])
        for column, value in task.items():
            self._sql.exec(f"UPDATE batches SET {column} = ? WHERE id = ?", value, batch["id"])
