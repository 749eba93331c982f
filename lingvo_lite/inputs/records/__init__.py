"""TFRecord files with a sidecar that makes them readable by index: reading, writing, indexing.

What the payloads hold is not here: examples.py, text/pairs.py and speech/utterances.py.
"""

from lingvo_lite.inputs.records.reading import RecordSource as RecordSource
from lingvo_lite.inputs.records.sidecars import (
    SidecarPath as SidecarPath,
    WriteSidecar as WriteSidecar,
)
from lingvo_lite.inputs.records.writing import (
    RemoveLeftovers as RemoveLeftovers,
    RemoveOtherShards as RemoveOtherShards,
    ShardWriter as ShardWriter,
    WriteShards as WriteShards,
)
