"""One owner's many edits, and another's one."""

import re
from concurrent.futures import ThreadPoolExecutor

from .conftest import OTHER_TOKEN, TOKEN, Running, base64_of, until, wav

MANY = 12  # more than the slots


def test_a_short_edit_is_not_held_up_by_another_owners_many(guarded: Running) -> None:
    def running() -> float:
        answer = guarded.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        found = re.search(r"^melodyflow_gateway_edits_running (.*)$", answer.text, re.MULTILINE)
        assert found
        return float(found[1])

    def edit(token: str, seconds: float, pitch: float, **fields: object) -> int:
        answer = guarded.post(
            "/transform",
            json={"audio": base64_of(wav(seconds, pitch)), "variation": "celtic", **fields},
            headers={"Authorization": f"Bearer {token}"},
        )
        return answer.status_code

    with ThreadPoolExecutor(MANY) as pool:
        many = [pool.submit(edit, TOKEN, 4.0, 200.0 + i, priority=1, steps=32) for i in range(MANY)]
        assert until(lambda: running() >= 6)
        assert edit(OTHER_TOKEN, 1.0, 100.0, steps=4) == 200
        assert running() <= 6
        assert sum(one.done() for one in many) <= 1
        assert [one.result() for one in many] == [200] * MANY
