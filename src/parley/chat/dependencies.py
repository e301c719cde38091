"""What the routes of conversations ask the container for."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from parley.chat.conversations import ConversationService
from parley.chat.service import ChatService


async def _conversations(connection: HTTPConnection) -> ConversationService:
    service: ConversationService = connection.state.conversations
    return service


Conversations = Annotated[ConversationService, Depends(_conversations)]


async def _chat(connection: HTTPConnection) -> ChatService:
    service: ChatService = connection.state.chat
    return service


Chat = Annotated[ChatService, Depends(_chat)]
