"""Takes steps as lines of JSON on standard input and answers each: `{id, step, data}`, `{id, data|error}`."""

import asyncio
import inspect
import json
import sys
import traceback


async def serve(client):
    """A step is a method of the client. Ends with standard input."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        message = json.loads(line)
        try:
            data = getattr(client, message["step"])(**message["data"])
            if inspect.isawaitable(data):
                data = await data
            answer = {"id": message["id"], "data": data}
        except Exception as error:
            traceback.print_exc()
            answer = {"id": message["id"], "error": repr(error)}
        print(json.dumps(answer), flush=True)
