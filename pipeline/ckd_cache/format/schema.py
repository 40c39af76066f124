"""The JSON schema of the manifest, for readers and writers in other languages.

python -m ckd_cache.format.schema > docs/manifest.schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from ckd_cache.format.manifest import Manifest
from ckd_cache.format.spec import FORMAT_NAME, FORMAT_VERSION
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["manifest_schema", "schema_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def manifest_schema() -> JsonObject:
    """Schema (JSON Schema, draft 2020-12) of ``ckd.json`` as it is stored.

    It says which members there are and of which kind; what members say of each other (digest,
    fingerprints, the numbering of parts) is in docs/format.md only.
    """
    schema = Manifest.model_json_schema(mode="serialization")
    members = schema["properties"]
    members["digest"] = _DIGEST
    members["format_version"] = {"const": FORMAT_VERSION}
    members["generation"]["minimum"] = 1
    members["files"] = {"$ref": "#/$defs/FilesRecord"}
    for record in _objects(schema):
        _as_stored(record)
    title = f"Manifest of a {FORMAT_NAME}, format version {FORMAT_VERSION}"
    return {"$schema": _DIALECT, "title": title, **schema}


def schema_text() -> str:
    """The schema as it stands in the documentation."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def _objects(value: JsonValue) -> Iterator[JsonObject]:
    """Every object of a schema, itself included."""
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value:
        if isinstance(member, dict | list):
            yield from _objects(member)


def _as_stored(record: JsonObject) -> None:
    """Say of an object what is so in a file, and leave out what is so in Python."""
    for name in ("title", "default"):
        if not isinstance(record.get(name), dict):
            record.pop(name, None)
    if isinstance(record.get("description"), str):
        record["description"] = record["description"].partition("\n")[0]
    if isinstance(record.get("properties"), dict):
        # Also what has a default in the models.
        record["required"] = sorted(record["properties"])
    if "patternProperties" in record:
        record["additionalProperties"] = False


if __name__ == "__main__":
    sys.stdout.write(schema_text())
