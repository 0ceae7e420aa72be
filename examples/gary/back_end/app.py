"""A back end with the calls of the gary tool chain's own, and none of its models: it hands an edit
on by the path of a file and reads progress in Redis; its Socket.IO clients hear what comes through
Flask-SocketIO's queue. It shows that the gateway serves such a back end, and nothing more."""

import base64
import json
import os
import threading
import time
import uuid
from typing import Any

import redis
import requests
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from flask_socketio import SocketIO, emit, join_room

SERVICE = os.environ.get("SERVICE", "http://melodyflow:8002")
REDIS_URL = os.environ.get("REDIS_URL", "redis://redis:6379")
FOLDER = os.environ.get("FOLDER", "/tmp/audio_transfer")
KEPT_SECONDS = 3600

app = Flask(__name__)
sockets = SocketIO(
    app, message_queue=REDIS_URL, async_mode="threading", max_http_buffer_size=64 * 2**20
)
store = redis.Redis.from_url(REDIS_URL, db=0)


def note(session: str, status: str, **more: object) -> None:
    text = json.dumps({"status": status, "timestamp": time.time(), **more})
    store.set(f"status:{session}", text, ex=KEPT_SECONDS)


def edit(session: str, asked: dict[str, Any]) -> None:
    """Begins an edit; it goes on in a thread of its own."""
    path = f"{FOLDER}/input_{session}_{uuid.uuid4().hex[:8]}.wav"
    with open(path, "wb") as file:
        file.write(base64.b64decode(asked["audio_data"]))
    note(session, "warming")
    fields = ("variation", "flowstep", "solver", "custom_prompt", "steps")
    body = {name: asked[name] for name in fields if asked.get(name) is not None}
    body |= {"audio_file_path": path, "session_id": session}

    def wait() -> None:
        try:
            answer = requests.post(f"{SERVICE}/transform", json=body, timeout=300)
            if answer.status_code != 200:
                raise ValueError(answer.json().get("error", answer.status_code))
            audio = answer.json()["audio"]
            store.set(f"result:{session}", audio, ex=KEPT_SECONDS)
            note(session, "completed")
            data = {"audio_data": audio, "variation": asked.get("variation")}
            sockets.emit("audio_transformed", {**data, "session_id": session}, to=session)
        except (requests.RequestException, ValueError, KeyError) as error:
            note(session, "failed", error=str(error))
            sockets.emit("error", {"message": str(error), "session_id": session}, to=session)
        finally:
            os.remove(path)

    threading.Thread(target=wait, daemon=True).start()


@app.post("/api/juce/transform_audio")
def begin() -> ResponseReturnValue:
    asked = request.get_json()
    session = asked.get("session_id") or str(uuid.uuid4())
    edit(session, asked)
    return jsonify(success=True, session_id=session)


@app.get("/api/juce/poll_status/<session>")
def poll(session: str) -> ResponseReturnValue:
    status = json.loads(store.get(f"status:{session}") or '{"status": "unknown"}')
    progress = int(store.get(f"progress:{session}") or 0)
    answer = {"success": True, "progress": progress, **status}
    if status["status"] == "completed":
        answer["audio_data"] = (store.get(f"result:{session}") or b"").decode()
    return jsonify(answer)


@sockets.on("transform_audio_request")
def transform(asked: dict[str, Any]) -> None:
    session = asked.get("session_id") or str(uuid.uuid4())
    join_room(session)
    emit("transform_audio_received", {"session_id": session})
    edit(session, asked)


if __name__ == "__main__":
    sockets.run(app, "0.0.0.0", 8000, allow_unsafe_werkzeug=True)
