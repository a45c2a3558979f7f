"""What steps and bodies have reported, as it is read back.

events of a part    events.read
  -> Entry          with the step that reported it, under its name on the run
  -> Point, Figure, Artifact, ...    what people ask for, by name
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pipedeco import artifacts
from pipedeco.errors import StoreError
from pipedeco.events import ARTIFACT, FIGURE, IMAGE, METRIC, MODEL, PARAM, TABLE, TAG, TEXT
from pipedeco.store.reports import param_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.blobs import BlobStore
    from pipedeco.events import Event


class Entry(NamedTuple):
    """An event, and the step that reported it; None is the body."""

    event: Event
    source: str | None


class Item:
    """One thing that was reported.

    Attributes: `name`, `source` (the step that reported it, None for the body), `time` (seconds
    since the epoch), `step` (the caller's own count, or None), `size` (bytes, where it has any).
    """

    def __init__(self, entry: Entry, blobs: BlobStore) -> None:
        event = entry.event
        self.name: str = event.name
        self.source: str | None = entry.source
        self.time: float = event.time
        self.step: int | None = event.step
        self.kind: str = event.kind
        self._payload: Any = event.payload
        self._blobs = blobs

    @property
    def size(self) -> int | None:
        size: int | None = self._payload.get("size")
        return size

    @property
    def _data(self) -> bytes:
        return bytes(self._blobs.get(self._payload["blob"], verify=True)[0])

    def to_json(self) -> dict[str, Any]:
        """What is known of it without reading it."""
        facts = {name: getattr(self, name) for name in ("name", "kind", "source", "time", "step")}
        known = ("size", "mime", "type", "file", "files", "preview", "framework", "rows", "columns")
        return facts | {name: self._payload[name] for name in known if name in self._payload}

    def __repr__(self) -> str:
        of = "" if self.source is None else f" of step {self.source}"
        return f"<{self.kind} {self.name!r}{of}>"


SUFFIXES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".html": "text/html",
}


def _plotly_figure(text: str) -> Any:
    import plotly.io

    return plotly.io.from_json(text)


class Figure(Item):
    """A figure or an image: `mime`, `data` (bytes)."""

    @property
    def mime(self) -> str:
        return str(self._payload["mime"])

    @property
    def data(self) -> bytes:
        """The file's bytes; raises BlobCorrupt where it is lost or damaged."""
        return self._data

    def load(self) -> Any:
        """The figure of plotly, the text of an SVG drawing, or an image of PIL; the bytes where
        the library is not installed."""
        if self.mime.endswith("+json"):
            return _plotly_figure(self.data.decode())
        if self.mime == "image/svg+xml":
            return self.data.decode("utf-8", "replace")
        from importlib.util import find_spec

        if find_spec("PIL") is None:
            return self.data
        import io

        from PIL import Image

        return Image.open(io.BytesIO(self.data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file that is not there yet; a figure of plotly as .html where that is its
        suffix.

        Raises StoreError for a suffix that says something else, and where it cannot be written.
        """
        target = os.path.abspath(os.fspath(path))
        suffix = os.path.splitext(target)[1].lower()
        data = self.data
        if suffix == ".html" and self.mime.endswith("+json"):
            data = _plotly_figure(data.decode()).to_html().encode()
        elif suffix in SUFFIXES and SUFFIXES[suffix] != self.mime:
            raise StoreError(f"figure {self.name} is {self.mime}, which {suffix} files are not")
        try:
            with open(target, "xb") as file:
                file.write(data)
        except FileExistsError:
            raise StoreError(
                f"{target} is there already; choose another name or remove it"
            ) from None
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror}") from error

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """What a notebook shows."""
        if self.mime.endswith("+json"):
            return {self.mime: json.loads(self.data)}
        if self.mime == "image/svg+xml":
            return {self.mime: self.data.decode("utf-8", "replace")}
        import base64

        return {self.mime: base64.b64encode(self.data).decode()}


class Text(Item):
    """A text: `text`."""

    @property
    def text(self) -> str:
        inline: str | None = self._payload.get("text")
        return self._data.decode() if inline is None else inline

    @property
    def preview(self) -> str:
        """Its first 200 characters."""
        shown: str = self._payload.get("text") or self._payload.get("preview") or ""
        return shown[:200]

    @property
    def size(self) -> int | None:
        inline: str | None = self._payload.get("text")
        return super().size if inline is None else len(inline.encode("utf-8", "surrogatepass"))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "size": self.size, "preview": self.preview}

    def __str__(self) -> str:
        return self.text


class Table(Item):
    """A table: `columns`, `rows` (lists)."""

    @property
    def columns(self) -> list[str]:
        return list(json.loads(self._data)["columns"])

    @property
    def rows(self) -> list[list[Any]]:
        return list(json.loads(self._data)["rows"])

    def frame(self) -> Any:
        """The table as a DataFrame of pandas, which must be installed."""
        import pandas as pd

        found = json.loads(self._data)
        return pd.DataFrame(found["rows"], columns=found["columns"])


class Artifact(Item):
    """An artifact or a model: `type` (object, file or folder), `framework` (of a model)."""

    @property
    def type(self) -> str:
        return str(self._payload["type"])

    @property
    def file(self) -> str | None:
        """The name that the file or folder had."""
        name: str | None = self._payload.get("file")
        return name

    @property
    def framework(self) -> str | None:
        framework: str | None = self._payload.get("framework")
        return framework

    @property
    def preview(self) -> str | None:
        preview: str | None = self._payload.get("preview")
        return preview

    def load(self) -> Any:
        """The object; of a file or a folder its path, as `path` gives it.

        Unpickling executes code of who wrote the store.
        Raises BlobCorrupt where it is lost or damaged, and StoreError where its classes are not
        here.
        """
        if self.type != artifacts.OBJECT:
            return self.path()
        try:
            return artifacts.load(self._payload, self._blobs)
        except StoreError:
            raise
        except Exception as error:  # whatever the classes of the object raise, or their absence
            raise StoreError(
                f"artifact {self.name} cannot be loaded in this process: {type(error).__name__}: "
                f"{error}; {MISSING}"
            ) from error

    def path(self) -> str:
        """The path of a file or folder with this content, which is yours to read, not to change.

        Raises StoreError for an object, which has none.
        """
        if self.type == artifacts.OBJECT:
            raise StoreError(f"artifact {self.name} is an object, no file; take its load()")
        store = os.path.dirname(self._blobs.folder)
        name = os.path.basename(self.file or "")
        digest = str(self._payload["blob"])
        if not re.fullmatch("[0-9a-f]{64}", digest) or name in ("", ".", ".."):
            raise StoreError(f"artifact {self.name} is recorded in a form that nobody writes")
        final = os.path.join(store, "files", digest, name)
        if not os.path.exists(final):
            self._place(final)
        return final

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the file or folder, or the pickled object, to a path that is free.

        Raises StoreError where something is there, or nothing can be written.
        """
        target = os.path.abspath(os.fspath(path))
        if os.path.lexists(target):
            raise StoreError(f"{target} is there already; choose another name or remove it")
        try:
            artifacts.restore(self._payload, self._blobs, target)
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error.strerror}") from error

    def plain(self) -> bytes | bytearray | str | None:
        """The object where it is bytes or a text, for which nothing is unpickled; else None."""
        if self.type != artifacts.OBJECT:
            return None
        return artifacts.plain_object(self._payload, self._blobs)

    def _place(self, final: str) -> None:
        """Write the content aside and put it in place at once; another process may be quicker."""
        from pipedeco.blobs import make_private

        make_private(os.path.dirname(final))
        aside = os.path.join(os.path.dirname(final), f"writing-{os.urandom(8).hex()}")
        try:
            artifacts.restore(self._payload, self._blobs, aside, mode=0o400)
            os.rename(aside, final)
        except OSError as error:
            if not os.path.exists(final):
                raise StoreError(f"{final} cannot be written: {error.strerror}") from error
        finally:
            if os.path.isdir(aside):
                shutil.rmtree(aside, ignore_errors=True)
            elif os.path.lexists(aside):
                os.unlink(aside)


CLASSES: dict[str, type[Item]] = {
    ARTIFACT: Artifact,
    MODEL: Artifact,
    FIGURE: Figure,
    IMAGE: Figure,
    TABLE: Table,
    TEXT: Text,
}

MISSING = (
    "import or define what it is made of (what a script defines can be imported from it: "
    "from SCRIPT import NAME)"
)


T = TypeVar("T", bound=Item)


class Items(Mapping[str, T], Generic[T]):
    """Things by name, the last of each name; `history(name)` gives all of one name in order."""

    def __init__(self, what: str, items: Iterable[T]) -> None:
        self._what = what
        self._items: dict[str, list[T]] = {}
        for item in items:
            self._items.setdefault(item.name, []).append(item)

    def __getitem__(self, name: str) -> T:
        """The last of that name; KeyError names what there is."""
        if name not in self._items:
            known = ", ".join(list(self._items)[:20]) or "none"
            raise KeyError(f"there is no {self._what} {name!r}; there are: {known}")
        return self._items[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def history(self, name: str) -> list[T]:
        return list(self._items.get(name, ()))

    def __repr__(self) -> str:
        return f"<{len(self)} {self._what}s: {', '.join(list(self)[:10])}>"


class ReportView:
    """What was reported on a step or a run.

    Parameters
    ----------
    entries: called with whether metrics are wanted; gives the entries in order.
    blobs: where what is large stands.
    """

    def __init__(self, entries: Any, blobs: BlobStore) -> None:
        self._entries = entries
        self._blobs = blobs

    def points(self) -> list[dict[str, Any]]:
        """The points of all metrics: name, value, step, time, source."""
        return [
            {
                "name": entry.event.name,
                "value": entry.event.payload,
                "step": entry.event.step,
                "time": entry.event.time,
                "source": entry.source,
            }
            for entry in self._entries(metrics=True)
            if entry.event.kind == METRIC
        ]

    def last_values(self) -> dict[str, float]:
        """The last value of each metric."""
        return {point["name"]: point["value"] for point in self.points()}

    def artifacts(self) -> Items[Artifact]:
        return Items("artifact", self._items(Artifact, ARTIFACT))

    def models(self) -> Items[Artifact]:
        return Items("model", self._items(Artifact, MODEL))

    def figures(self) -> Items[Figure]:
        return Items("figure", self._items(Figure, FIGURE, IMAGE))

    def tables(self) -> Items[Table]:
        return Items("table", self._items(Table, TABLE))

    def texts(self) -> Items[Text]:
        return Items("text", self._items(Text, TEXT))

    def everything(self) -> list[Item]:
        """The last of each kind and name, kind by kind."""
        found: dict[tuple[str, str], Item] = {}
        for entry in self._of(*CLASSES):
            kind = entry.event.kind
            found[kind, entry.event.name] = CLASSES[kind](entry, self._blobs)
        kinds = list(CLASSES)
        return sorted(found.values(), key=lambda item: kinds.index(item.kind))

    def params(self) -> dict[str, Any]:
        """The parameters that were reported; by preview where they are no plain values."""
        return {
            entry.event.name: entry.event.payload.get("value", entry.event.payload.get("preview"))
            for entry in self._of(PARAM)
        }

    def param_texts(self) -> dict[str, str]:
        return {entry.event.name: param_text(entry.event.payload) for entry in self._of(PARAM)}

    def tags(self) -> list[str]:
        return list(dict.fromkeys(entry.event.name for entry in self._of(TAG)))

    def _items(self, kind: type[T], *kinds: str) -> list[T]:
        return [kind(entry, self._blobs) for entry in self._of(*kinds)]

    def _of(self, *kinds: str) -> list[Entry]:
        return [entry for entry in self._entries(metrics=False) if entry.event.kind in kinds]


def frame(points: list[dict[str, Any]]) -> Any:
    """Points as a DataFrame where pandas is installed, else as they are."""
    from importlib.util import find_spec

    if find_spec("pandas") is None:
        return points
    import pandas as pd

    return pd.DataFrame(points, columns=["name", "value", "step", "time", "source"])
