// Edits over HTTP, one after the other in each of so many clients: tests/measure/replicas.py runs it in k6.
import { check } from "k6";
import http from "k6/http";

const body = open(__ENV.BODY);

export const options = {
  vus: Number(__ENV.CLIENTS),
  duration: __ENV.SECONDS + "s",
  gracefulStop: "60s",
  summaryTrendStats: ["med", "p(95)"],
};

export default function () {
  const headers = { authorization: `Bearer ${__ENV.KEY}` };
  // No edit uses another's work: each has a seed of its own, at random.
  const answer = http.post(`http://${__ENV.URL}/v2/models/melodyflow/generate`, body, { headers, timeout: "120s" });
  check(answer, { "is a result": (got) => got.status === 200 && got.body.includes('"audio"') });
}
