"""`Bucket` on an R2 bucket. Scope: global, consistent."""

from collections.abc import Sequence
from typing import Any

from pyodide.ffi import JsException, to_js

from adapters.javascript import to_object
from edge_router.errors import StoreError


class R2Bucket:
    """No deadlines: objects are large, and who waits for them has one."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    async def put(self, key: str, data: bytes) -> None:
        try:
            await self._bucket.put(key, _copied(data))
        except JsException as exc:
            raise _failed("put", exc) from exc

    async def begin(self, key: str) -> "R2Upload":
        try:
            return R2Upload(await self._bucket.createMultipartUpload(key))
        except JsException as exc:
            raise _failed("createMultipartUpload", exc) from exc

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        part = {"offset": offset} if length is None else {"offset": offset, "length": length}
        try:
            found = await self._bucket.get(key, to_object({"range": part}))
            if not hasattr(found, "arrayBuffer"):
                raise StoreError("R2 get found nothing where something was stored.")
            data: bytes = (await found.arrayBuffer()).to_bytes()
        except JsException as exc:
            raise _failed("get", exc) from exc
        return data

    async def body(self, key: str) -> Any:
        try:
            found = await self._bucket.get(key)
        except JsException as exc:
            raise _failed("get", exc) from exc
        return found.body if hasattr(found, "body") else None

    async def keys(self, prefix: str) -> list[str]:
        try:
            listed = await self._bucket.list(to_object({"prefix": prefix}))
        except JsException as exc:
            raise _failed("list", exc) from exc
        return [str(each.key) for each in listed.objects]

    async def delete(self, keys: Sequence[str]) -> None:
        try:
            await self._bucket.delete(to_object(list(keys)))
        except JsException as exc:
            raise _failed("delete", exc) from exc


class R2Upload:
    """`Upload`: R2 puts the parts together at the end, and forgets an upload that is left alone after seven days."""

    def __init__(self, upload: Any) -> None:
        self._upload = upload
        self._parts: list[Any] = []

    async def part(self, data: bytes) -> None:
        try:
            self._parts.append(await self._upload.uploadPart(len(self._parts) + 1, _copied(data)))
        except JsException as exc:
            raise _failed("uploadPart", exc) from exc

    async def complete(self) -> None:
        try:
            await self._upload.complete(to_js(self._parts))
        except JsException as exc:
            raise _failed("complete", exc) from exc

    async def abort(self) -> None:
        try:
            await self._upload.abort()
        except JsException as exc:
            raise _failed("abort", exc) from exc


def _copied(data: bytes) -> Any:
    """In JavaScript's memory: a view of Python's could move while R2 reads it."""
    return to_js(data)


def _failed(what: str, exc: JsException) -> StoreError:
    return StoreError(f"R2 {what} failed: {type(exc).__name__}")
