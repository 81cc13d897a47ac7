"""Where files lie, and writing one of unknown size with little memory."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ..ports import Bucket, Upload
from .book import file_record
from .lines import Line, LineReader

PART_BYTES = 8 * 1024 * 1024  # R2 wants parts of one size, of 5 MiB at least
RANGE_BYTES = 4 * 1024 * 1024  # that are read at a time
HELD_BYTES = 16 * 1024 * 1024  # of results, in memory at a time: an isolate has 128 MB, and embeddings are long

RESULT_FILES = ("output_file_id", "error_file_id")


def file_key(tenant: str, file_id: str) -> str:
    return f"files/{quote(tenant, safe='')}/{file_id}"


def parts_prefix(tenant: str, batch_id: str) -> str:
    """Of a batch's results while it runs."""
    return f"parts/{quote(tenant, safe='')}/{batch_id}/"


class PartWriter:
    """Writes one object whose size nobody knows yet: what fits into one part is put at once, else it is uploaded in
    parts. Holds one part.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._waiting = bytearray()
        self._upload: Upload | None = None
        self.size_bytes = 0

    async def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self._waiting += data
        while len(self._waiting) > PART_BYTES:
            if self._upload is None:
                self._upload = await self._bucket.begin(self._key)
            part, self._waiting = bytes(self._waiting[:PART_BYTES]), self._waiting[PART_BYTES:]
            await self._upload.part(part)

    async def close(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        if self._upload is None:
            await self._bucket.put(self._key, data)
            return
        await self._upload.part(data)
        await self._upload.complete()

    async def abort(self) -> None:
        """What was uploaded so far goes. Harmless when nothing was."""
        self._waiting.clear()
        if self._upload is not None:
            await self._upload.abort()


async def stored_lines(bucket: Bucket, key: str, size_bytes: int) -> AsyncIterator[list[Line]]:
    """The lines of an object; together those that end in one range that is read."""
    reader, offset = LineReader(), 0
    while offset < size_bytes:
        piece = await bucket.read(key, offset, RANGE_BYTES)
        offset += len(piece)
        yield [*reader.feed(piece), *(reader.close() if offset >= size_bytes else ())]


async def written_files(batch: Mapping[str, Any], writers: Sequence[PartWriter], now_s: float) -> list[dict[str, Any]]:
    """Closes the output and the error file. The records of those that hold anything."""
    internal = batch["internal"]
    files = []
    for name, writer in zip(RESULT_FILES, writers, strict=True):
        if writer.size_bytes:
            await writer.close()
            files.append(
                file_record(
                    internal[name],
                    filename=f"{batch['id']}_{name.partition('_')[0]}.jsonl",
                    size_bytes=writer.size_bytes,
                    purpose="batch_output",
                    created_s=now_s,
                    expires_s=now_s + internal["output_expires_s"],
                )
            )
    return files
