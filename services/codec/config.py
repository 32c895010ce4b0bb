"""What the codec is told from outside."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from services.runtime.config import Settings
from services.runtime.cores import count_cores


class CodecSettings(Settings):
    """The settings of every service, and the codec's own."""

    model_config = SettingsConfigDict(populate_by_name=True)

    u2net_home: Annotated[Path, Field(validation_alias=AliasChoices("MEKIKI_U2NET_HOME", "U2NET_HOME"))] = (
        Path.home() / ".u2net"
    )
    """Folder with u2netp.onnx for background removal by rembg; `weights_dir` is searched before it."""
    segment_items: Annotated[int, Ge(1), Le(4096)] = 64
    """Most appended items that are made durable together."""
    segment_wait_ms: Annotated[float, Ge(0), Le(10_000)] = 50.0
    """How long appended items wait for the next one of their stream before they are made durable."""
    update_queue_limit: Annotated[int, Ge(1), Le(100_000)] = 1024
    """Most item updates that wait; the next one is answered RESOURCE_EXHAUSTED."""
    threads: Annotated[int, Ge(0), Le(1024)] = 0
    """Images prepared at once; 0 means one a core."""

    @property
    def thread_count(self) -> int:
        """How many images are worked on at once."""
        return self.threads or count_cores()
