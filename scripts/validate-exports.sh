#!/usr/bin/env bash
# Gives what the exports write to the formats' own tools: OASIS's validator of STIX, Elastic's types of ECS under the TypeScript
# compiler, and Timesketch's import client up to where it would talk with a server. They come from PyPI and npm into a folder that
# goes away afterwards, so this is run by hand; the tests hold the exports to rules of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
golden=$PWD/report/export/testdata
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/py"
"$dir/py/bin/pip" install --quiet --disable-pip-version-check stix2-validator timesketch-import-client
(cd "$dir" && npm install --silent --no-fund --no-audit @elastic/ecs@8.11.5 typescript@5 >/dev/null 2>&1)

echo "STIX:"
cp "$golden/stix.golden" "$dir/bundle.json"
"$dir/py/bin/stix2_validator" "$dir/bundle.json" | sed 's/^/  /'

echo "ECS:"
"$dir/py/bin/python" - "$golden/ecs.golden" "$dir/check.ts" <<'PY'
import json, sys
docs = [json.loads(line) for line in open(sys.argv[1])]
for d in docs:
    d.pop("sherd", None)  # a custom field, which ECS allows under a name of its own
    d["ecs"].pop("version")  # the types allow one only
text = "import type { Ecs } from '@elastic/ecs';\ntype Doc = Omit<Ecs, 'ecs'> & { ecs?: object };\nexport const docs: Doc[] = %s;\n"
open(sys.argv[2], "w").write(text % json.dumps(docs))
print(f"  {len(docs)} documents")
PY
(cd "$dir" && npx --no-install tsc --noEmit --strict --moduleResolution node --skipLibCheck check.ts 2>/dev/null) && echo "  all have ECS's fields and types"

echo "Timesketch:"
cp "$golden/timesketch.golden" "$dir/ts.jsonl"
cp "$golden/timesketch-csv.golden" "$dir/ts.csv"
"$dir/py/bin/python" - "$dir/ts.jsonl" "$dir/ts.csv" <<'PY'
import sys
from unittest import mock
from timesketch_import_client import importer

class Sketch:
    id, name, api = 1, "s", None

for path in sys.argv[1:]:
    streamer, frames, lines = importer.ImportStreamer(), [], []
    streamer._sketch, streamer._resource_url = Sketch(), ""
    with mock.patch.object(importer.ImportStreamer, "_upload_data_frame", lambda self, frame, end_stream: frames.append(frame)), \
         mock.patch.object(importer.ImportStreamer, "_upload_data_buffer", lambda self, end_stream: lines.extend(self._data_lines)):
        streamer.add_file(path)
        streamer.flush(end_stream=True)
    rows = sum(len(f) for f in frames) + len(lines)
    columns = set(frames[0].columns) if frames else set(lines[0])
    assert {"message", "datetime", "timestamp_desc"} <= columns, columns
    print(f"  {path.rsplit('.', 1)[1]}: {rows} events taken")
PY
