"""The settings of conversations: bounds of what is said, and of what a worker takes on."""

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from parley.chat.commands import MAX_CONTENT_BYTES
from parley.core.settings import Slice


class ChatSettings(Slice):
    """Bounds of DESIGN 4.5, and how much a worker takes on."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_CHAT_")

    message_max_bytes: PositiveInt = Field(
        MAX_CONTENT_BYTES, le=MAX_CONTENT_BYTES, description="Bytes of UTF-8 a message may have."
    )
    reply_max_bytes: PositiveInt = Field(262_144, description="Bytes of UTF-8 a reply may have; longer ones are cut.")
    queue_max: PositiveInt = Field(5, le=100, description="Replies that may wait in one conversation.")
    tape_keep_s: PositiveFloat = Field(
        120.0, description="Seconds Redis keeps what a reply has written after its writer fell silent or ended."
    )
    history_messages: PositiveInt = Field(200, le=2000, description="Newest messages an agent is given.")
    send_deadline_s: PositiveFloat = Field(10.0, description="Seconds a viewer may take to accept what was sent.")
    heartbeat_s: PositiveFloat = Field(25.0, description="Seconds between two pings of a socket.")
    comment_s: PositiveFloat = Field(15.0, description="Seconds of silence after which a stream gets a comment.")
    linger_s: PositiveFloat = Field(30.0, description="Seconds a conversation is followed after its last viewer left.")
    sweep_s: PositiveFloat = Field(2.0, description="Seconds between two looks at everything that is watched.")
    send_wait_s: PositiveFloat = Field(60.0, description="Seconds POST /chat/send waits for the answer.")
    live_replies: PositiveInt = Field(400, description="Replies a worker writes at a time; more are refused with 503.")
    loop_lag_s: PositiveFloat = Field(
        0.25, description="Lag of the event loop from which new questions are refused with 503."
    )
    sockets: PositiveInt = Field(10_000, description="Sockets and streams a worker serves at a time.")
    sockets_per_user: PositiveInt = Field(50, description="Sockets and streams of one user on one worker.")
    sockets_per_address: PositiveInt = Field(
        1_000, description="Sockets and streams from one client address on one worker."
    )
