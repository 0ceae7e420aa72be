"""Examples for the OpenAPI document: requests that can be sent as they stand, and answers."""

from __future__ import annotations

from typing import Any

from melodyflow_client.contract import DEFAULT_LIMITS, OPTIONS, default_of

# A fifth of a second of silence, 44.1 kHz, mono: a whole FLAC file in base64.
SOUND = (
    "ZkxhQwAAACIQABAAAAALAAANCsRA8AAAInSILHAppQl3abhb0Xb1dSaEhAAAKCAAAAByZWZlcmVuY2UgbGliRkxBQyAx"
    "LjQuMyAyMDIzMDYyMwAAAAD/+MkIAJUAAAAhvf/4yQgBkgAAAE3F//h5CAICc8MAAACfEg=="
)

_EDIT = {
    "variation": "strings_quartet",
    "flowstep": default_of("flowstep"),
    "session_id": "test_session",
}

# By the name of the model, of JSON bodies and answers.
OF_MODEL: dict[str, dict[str, Any]] = {
    "TransformRequest": {"audio": SOUND, **_EDIT},
    "StreamRequest": {"audio": SOUND, **_EDIT},
    "AudioDataRequest": {"audio_data": SOUND, **_EDIT},
    "SessionRequest": {"session_id": "test_session"},
    "TransformAnswer": {"audio": SOUND, "message": "Audio processed successfully"},
    "Variations": {
        "variations": {
            "celtic": {
                "prompt": "Celtic folk with harp and tin whistle, for a journey on foot.",
                "flowstep": default_of("flowstep"),
                "steps": default_of("steps"),
                "category": "acoustic",
            }
        }
    },
    "LimitsAnswer": {
        "limits": dict(DEFAULT_LIMITS),
        "fields": {
            row.field_name: dict(zip(("lowest", "highest"), row.bounds(), strict=True))
            for row in OPTIONS.values()
        },
        "max_body_bytes": 67108864,
    },
    "Health": {
        "status": "healthy",
        "error": None,
        "gpu_available": False,
        "model_loaded": True,
        "uptime": 71.5,
        "resources": {
            "cpu_percent": 42.5,
            "memory_percent": 31.0,
            "gpu_memory_used": None,
            "gpu_memory_total": None,
        },
        "queue": {"waiting": 0, "gateway_waiting": 0, "gateway_running": 1},
        "limits": {"seconds": DEFAULT_LIMITS["max_seconds"], "bytes": 67108864},
        "audio_formats": list(OPTIONS["format"].choices),
        "checkpoint": {"name": "demo", "licence": "MIT", "sha256": "5d6b" * 16},
        "version": "0.1.0",
    },
    "Ready": {"ready": True, "error": None},
    "JuceStarted": {
        "success": True,
        "session_id": "test_session",
        "seed": 20394,
        "message": "the edit has started",
    },
    "JuceStatus": {
        "success": True,
        "status": "processing",
        "progress": 37.5,
        "queue_status": {
            "status": "processing",
            "message": "the edit is running",
            "position": 0,
            "estimated_time": None,
        },
        "transform_in_progress": True,
        "seed": 20394,
    },
    "JuceUndone": {"success": True, "audio_data": SOUND, "message": "the audio before the edit"},
}

# By the status.
ERRORS = {
    400: "flowstep: 1; input should be less than 1",
    401: "a valid token is required: Authorization: Bearer TOKEN",
    403: "Origin: pages of other sites can't use this gateway",
    404: "variation: no variation is called 'kazoo'; `melodyflow variations` lists them",
    413: "the body is too large; at most 67108864 bytes are allowed",
    415: "Content-Type: 'text/plain'; application/json or multipart/form-data",
    421: "Host: 'evil.example'; this gateway doesn't serve that name; its operator can add it to "
    "MELODYFLOW_GATEWAY_HOSTS",
    429: "too many concurrent edits (32)",
    500: "internal error: the request is not the cause; request id 0f3c9a51",
    503: "no server answers at 127.0.0.1:8001: failed to connect to all addresses",
    504: "timeout: no result within 600 s",
}
