"""The worker of codec's operations: `python -m services.codec.job codec/operations/<id>`."""

from contextlib import closing

from mekiki.codec.v1 import codec_pb2
from services.codec import answers, messages
from services.codec.compact import Compactor
from services.codec.config import CodecSettings
from services.codec.scrub import Scrubber
from services.codec.servicer import open_codec
from services.runtime.worker import Job, run_job


class JobProgress:
    """Tells the operation how far the encoder is; see `Progress`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def report(self, phase: str, done: int, total: int) -> None:
        """Takes note; raises Cancelled to stop the work."""
        self._job.report(phase, done, total)

    def save(self, notes: bytes) -> None:
        """Keeps the notes for a successor."""
        self._job.save_checkpoint(notes)

    def load(self) -> bytes | None:
        """Returns a predecessor's notes."""
        return self._job.load_checkpoint()


def encode_dataset(request: codec_pb2.EncodeDatasetRequest, job: Job) -> codec_pb2.EncodeDatasetResponse:
    """Makes the prepared version of a data set."""
    settings: CodecSettings = job.settings
    options = messages.read_options(request.options, job.settings.max_pixels)
    with closing(open_codec(settings, job.store)) as codec:
        threads = settings.thread_count
        record = codec.encode(request.dataset, options, JobProgress(job), threads)
        masks = codec.encodings.read_masks(codec.datasets.open(request.dataset), record)
    return codec_pb2.EncodeDatasetResponse(
        encoding=answers.write_encoding(record, masks), background_description=record.background_description
    )


def compact_dataset(request: codec_pb2.CompactDatasetRequest, job: Job) -> codec_pb2.CompactDatasetResponse:
    """Writes the exact pixels of a data set anew."""
    with closing(open_codec(job.settings, job.store)) as codec:
        compactor = Compactor(codec.datasets, JobProgress(job), job.settings.thread_count)
        return answers.write_compaction(compactor.compact(request.dataset))


def verify_dataset(request: codec_pb2.VerifyDatasetRequest, job: Job) -> codec_pb2.VerifyDatasetResponse:
    """Reads everything of a data set."""
    with closing(open_codec(job.settings, job.store)) as codec:
        scrubber = Scrubber(codec.datasets, codec.encodings, job.store, JobProgress(job), job.settings.thread_count)
        return answers.write_findings(scrubber.scrub(request.dataset))


if __name__ == "__main__":
    run_job(
        {"EncodeDataset": encode_dataset, "CompactDataset": compact_dataset, "VerifyDataset": verify_dataset},
        CodecSettings,
    )
