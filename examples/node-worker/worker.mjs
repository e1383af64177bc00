// A Tasker worker with nothing but the official NATS client. Its duties: docs/reference/contracts.md
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const prefix = process.env.TASKER_NATS_PREFIX ?? "tasker";
const [file, queue, namespace = "default", tenant = "default"] = process.argv.slice(2);
if (!queue) throw new Error("usage: node worker.mjs HANDLERS.mjs QUEUE [NAMESPACE [TENANT]]");
const { handlers } = await import(pathToFileURL(file));
const worker = `node-${randomUUID()}`;
const [youngMs, answerMs, retryMs] = [2_000, 5_000, 200];
const running = new Map(); // key of an attempt -> how to stop it, and a promise of the first answer

const { hostname, port, username, password } = new URL(process.env.TASKER_NATS_URL ?? "nats://127.0.0.1:4222");
const login = password ? { user: username, pass: password } : username ? { token: username } : {};
const nats = await connect({ servers: `${hostname}:${port || 4222}`, ...login, maxReconnectAttempts: -1 });
const keyOf = ({ task_id, step, attempt }) => `${task_id}:${step}:${attempt}`;
const report = ({ task_id, step, attempt }, kind, more) => JSON.stringify({ kind, task_id, step, attempt, worker, ...more });

// A report is sent again, the same, until the owner has answered it.
async function tell(work, kind, more = {}) {
  const body = report(work, kind, more);
  for (;;) {
    try {
      const answer = (await nats.request(work.report_to, body, { timeout: answerMs })).json();
      if (answer.ok || answer.error?.status < 500) return answer;
      await sleep(1_000 * (answer.error?.retry_after_s ?? retryMs / 1_000));
    } catch {
      await sleep(retryMs); // lost, or nobody there: the owner may be on its way to another node
    }
  }
}

// Returns once the owner has answered, so that the work message may be acked; the attempt itself goes on.
function take(work, mayRun) {
  const key = keyOf(work);
  const held = running.get(key) ?? { stop: new AbortController() };
  running.set(key, held);
  return (held.answered ??= begin(work, key, held.stop, mayRun && !work.offer));
}

async function begin(work, key, stop, mayRun) {
  if (mayRun) return Promise.race([run(work, key, stop), tell(work, "started").then((answer) => follow(answer, stop))]);
  const answer = await tell(work, "claim");
  follow(answer, stop);
  if (answer.run) run(work, key, stop);
  else running.delete(key); // gone: somebody else has it, or nobody needs it any more
}

async function run(work, key, stop) {
  const beats = setInterval(async () => {
    const answer = await nats.request(work.report_to, report(work, "heartbeat"), { timeout: answerMs }).catch(() => null);
    if (answer) follow(answer.json(), stop);
  }, (1_000 * work.heartbeat_s) / 3);
  try {
    const results = { ...work.results };
    for (const of of work.results_ref ?? []) results[of] = (await tell(work, "result", { of })).result;
    if (work.input_ref) work.input = (await tell(work, "input")).result;
    const aborted = new Promise((_, fail) => stop.signal.addEventListener("abort", () => fail(stop.signal.reason)));
    stop.signal.throwIfAborted();
    const result = (await Promise.race([handlers[work.handler]({ ...work, results, signal: stop.signal }), aborted])) ?? null;
    const { ok, error } = await tell(work, "completed", { result });
    if (!ok) throw { name: "result_invalid", message: error?.detail, retryable: false }; // it would run again otherwise
  } catch (fault) {
    if (fault === "dropped") return;
    const { name: type = "Error", message = `${fault}`, retryable = true, retryAfterS, stack } = fault;
    const error = { type, message, retryable, stack };
    await tell(work, "failed", { error: retryAfterS === undefined ? error : { ...error, retry_after_s: retryAfterS } });
  } finally {
    clearInterval(beats);
    running.delete(key);
  }
}

function follow(answer, stop) {
  if (answer.cancel) stop?.abort({ name: "cancelled", message: "the attempt was cancelled", retryable: false });
  else if (answer.ok && !answer.recorded && answer.reason) stop?.abort("dropped");
}

nats.subscribe(`${prefix}.${tenant}.worker.${worker}.cancel`, {
  callback: (_, message) => follow({ cancel: true }, running.get(keyOf(message.json()))?.stop),
});

const [stream, name] = [`${prefix.toUpperCase()}_WORK`, `${tenant}=${namespace}=${queue}`];
const taken = { durable_name: name, filter_subject: `${prefix}.${tenant}.work.${namespace}.${queue}` };
const settings = { ...taken, ack_policy: AckPolicy.Explicit, max_deliver: -1, max_ack_pending: 20_000 };
const { consumers } = await jetstreamManager(nats);
await consumers.info(stream, name).catch(() => consumers.add(stream, settings));
const pulled = await (await jetstream(nats).consumers.get(stream, name)).consume({ max_messages: 100 });
for await (const message of pulled) {
  const { deliveryCount: count, timestampNanos } = message.info;
  const fresh = count === 1 && Date.now() - timestampNanos / 1e6 <= youngMs; // clocks must agree
  const beats = setInterval(() => message.working(), 10_000);
  take(message.json(), fresh)
    .then(() => message.ack())
    .finally(() => clearInterval(beats));
}
