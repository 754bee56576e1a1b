"""Read W&B's offline files: logs in the format of LevelDB, after seven bytes."""

import struct

from wandb.proto import wandb_internal_pb2

LOG_HEADER, LOG_BLOCK = struct.Struct("<IHB"), 32768


def records(path):
    """Yield the records in a .wandb file."""
    data, offset, content = path.read_bytes(), 7, b""
    while offset < len(data):
        if LOG_BLOCK - offset % LOG_BLOCK < LOG_HEADER.size:  # the rest of a block is padding
            offset += LOG_BLOCK - offset % LOG_BLOCK
        _, size, kind = LOG_HEADER.unpack_from(data, offset)
        offset += LOG_HEADER.size + size
        content += data[offset - size : offset]
        if kind in (1, 4):  # the whole, or the last part of a record
            yield wandb_internal_pb2.Record.FromString(content)
            content = b""


def wandb_run(folder):
    """Return the run in the one offline file below a run's folder."""
    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    return next(record.run for record in records(path) if record.HasField("run"))
